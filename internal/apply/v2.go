package apply

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Members up to 3.5 publish themselves, and the cluster's version, by requests of the v2 API: an entry that is a bare
// Request message, or an InternalRaftRequest that holds one in field 2. Two of its paths matter here, others must
// not be guessed at:
//
//	PUT /0/members/<hex id>/attributes  {"name":…,"clientURLs":[…]}
//	PUT /0/version                      3.5.0
const (
	v2Field       protowire.Number = 2 // in InternalRaftRequest
	v2FieldID     protowire.Number = 1 // in Request, as the rest
	v2FieldMethod protowire.Number = 2
	v2FieldPath   protowire.Number = 3
	v2FieldVal    protowire.Number = 4
	v2PathVersion                  = "/0/version"
	v2PathMembers                  = "/0/members/"
	v2AttrSuffix                   = "attributes"
	v2MethodPut                    = "PUT"
	v2MethodSync                   = "SYNC" // expires v2 keys, of which there are none
	v2MethodQGet                   = "QGET" // reads
)

// v2Request is the part of a v2 request that matters here.
type v2Request struct {
	Method, Path, Val string
}

// legacy tells whether a decoded request holds a v2 request, or nothing that this version knows but the v2 field.
func legacy(r *pb.InternalRaftRequest) bool {
	b := r.ProtoReflect().GetUnknown()
	if len(b) == 0 {
		return false
	}
	num, _, n := protowire.ConsumeTag(b)
	return n > 0 && num == v2Field
}

// applyV2 executes a v2 request. Requests with another meaning are fatal.
func (a *Applier) applyV2(e *raftpb.Entry) error {
	r, err := parseV2(e.Data)
	if err != nil {
		return fmt.Errorf("%w: entry %d: %w", ErrUnknownRequest, e.GetIndex(), err)
	}
	switch {
	case r.Method == v2MethodSync || r.Method == v2MethodQGet:
		return nil
	case r.Method == v2MethodPut && r.Path == v2PathVersion:
		return a.setVersion(r.Val).Err
	case r.Method == v2MethodPut && strings.HasPrefix(r.Path, v2PathMembers) && path.Base(r.Path) == v2AttrSuffix:
		return a.applyV2Attributes(r)
	}
	return fmt.Errorf("%w: entry %d is the v2 request %s %s; a directory that holds v2 keys is to be migrated first",
		ErrUnknownRequest, e.GetIndex(), r.Method, r.Path)
}

func (a *Applier) applyV2Attributes(r v2Request) error {
	hex := path.Base(path.Dir(r.Path))
	id, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return fmt.Errorf("apply: member ID in %s: %w", r.Path, err)
	}
	var attr struct {
		Name       string   `json:"name"`
		ClientURLs []string `json:"clientURLs"`
	}
	if err := json.Unmarshal([]byte(r.Val), &attr); err != nil {
		return fmt.Errorf("apply: attributes in %s: %w", r.Path, err)
	}
	return a.setAttributes(id, attr.Name, attr.ClientURLs).Err
}

// parseV2 reads a v2 request, bare or inside an InternalRaftRequest.
func parseV2(b []byte) (v2Request, error) {
	if inner, ok := v2Inside(b); ok {
		b = inner
	}
	var r v2Request
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, protowire.ParseError(n)
		}
		b = b[n:]
		if typ == protowire.BytesType && num >= v2FieldMethod && num <= v2FieldVal {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return r, protowire.ParseError(n)
			}
			switch num {
			case v2FieldMethod:
				r.Method = string(v)
			case v2FieldPath:
				r.Path = string(v)
			case v2FieldVal:
				r.Val = string(v)
			}
			b = b[n:]
			continue
		}
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return r, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return r, nil
}

// v2Inside finds field 2 of an InternalRaftRequest: a message, where a bare Request has the method's short word.
func v2Inside(b []byte) ([]byte, bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		if num == v2Field && typ == protowire.BytesType {
			v, m := protowire.ConsumeBytes(b[n:])
			// A request starts with its ID, field 1; no method starts with that tag's byte.
			if m < 0 || len(v) == 0 || v[0] != byte(protowire.EncodeTag(v2FieldID, protowire.VarintType)) {
				return nil, false
			}
			return v, true
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return nil, false
		}
		b = b[n+m:]
	}
	return nil, false
}
