package schema

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of leasepb.Lease{int64 ID=1; int64 TTL=2; int64 RemainingTTL=3}.
const (
	leaseIDField        = 1
	leaseTTLField       = 2
	leaseRemainingField = 3
)

// LeaseKey gives the key of a lease in bucket lease.
func LeaseKey(id int64) []byte { return PutUint64(uint64(id)) }

// AppendLease appends an encoded leasepb.Lease to dst. TTLs are in seconds; remaining is 0 where no
// checkpoint was made.
func AppendLease(dst []byte, id, ttl, remaining int64) []byte {
	for i, v := range [...]int64{id, ttl, remaining} {
		if v != 0 {
			dst = protowire.AppendTag(dst, protowire.Number(leaseIDField+i), protowire.VarintType)
			dst = protowire.AppendVarint(dst, uint64(v))
		}
	}
	return dst
}

// ParseLease reads an encoded leasepb.Lease; unknown fields are skipped. ErrMalformed where b is none.
func ParseLease(b []byte) (id, ttl, remaining int64, err error) {
	rest := b
	for len(rest) > 0 {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return 0, 0, 0, fmt.Errorf("%w: lease %x", ErrMalformed, b)
		}
		rest = rest[n:]
		var v uint64
		known := typ == protowire.VarintType && num <= leaseRemainingField
		if known {
			v, n = protowire.ConsumeVarint(rest)
		} else {
			n = protowire.ConsumeFieldValue(num, typ, rest)
		}
		if n < 0 {
			return 0, 0, 0, fmt.Errorf("%w: lease %x", ErrMalformed, b)
		}
		rest = rest[n:]
		if !known {
			continue
		}
		switch num {
		case leaseIDField:
			id = int64(v)
		case leaseTTLField:
			ttl = int64(v)
		case leaseRemainingField:
			remaining = int64(v)
		}
	}
	return id, ttl, remaining, nil
}
