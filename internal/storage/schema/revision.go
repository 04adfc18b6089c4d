package schema

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is returned when stored bytes are not what their bucket holds.
var ErrMalformed = errors.New("schema: malformed")

// Revision names one change: Main is the transaction's number, Sub the change's place in it.
type Revision struct{ Main, Sub int64 }

// Less orders revisions as the store does: by Main, then Sub.
func (r Revision) Less(o Revision) bool {
	return r.Main < o.Main || r.Main == o.Main && r.Sub < o.Sub
}

// Compare is negative where r comes before o, positive where it comes after it, else 0.
func (r Revision) Compare(o Revision) int {
	return cmp.Or(cmp.Compare(r.Main, o.Main), cmp.Compare(r.Sub, o.Sub))
}

// A key of bucket key is main and sub, 8 bytes big-endian each, with '_' between them, and 't' behind where
// the change was a delete. Byte order is revision order.
const (
	revisionLen   = 17
	tombstoneLen  = 18
	revisionBreak = '_'
	tombstoneMark = 't'
)

// RevisionKey gives the key under which the change at rev is stored.
func RevisionKey(rev Revision, tombstone bool) []byte {
	return AppendRevisionKey(make([]byte, 0, tombstoneLen), rev, tombstone)
}

// AppendRevisionKey appends the key of rev to dst.
func AppendRevisionKey(dst []byte, rev Revision, tombstone bool) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(rev.Main))
	dst = append(dst, revisionBreak)
	dst = binary.BigEndian.AppendUint64(dst, uint64(rev.Sub))
	if tombstone {
		dst = append(dst, tombstoneMark)
	}
	return dst
}

// ParseRevisionKey reads a key of bucket key, or one of the compaction marks in bucket meta. ErrMalformed
// where it is none.
func ParseRevisionKey(k []byte) (rev Revision, tombstone bool, err error) {
	if len(k) != revisionLen && len(k) != tombstoneLen || k[8] != revisionBreak {
		return Revision{}, false, fmt.Errorf("%w: revision %x", ErrMalformed, k)
	}
	rev = Revision{
		Main: int64(binary.BigEndian.Uint64(k)),
		Sub:  int64(binary.BigEndian.Uint64(k[9:])),
	}
	tombstone = len(k) == tombstoneLen
	if rev.Main < 0 || rev.Sub < 0 || tombstone && k[revisionLen] != tombstoneMark {
		return Revision{}, false, fmt.Errorf("%w: revision %x", ErrMalformed, k)
	}
	return rev, tombstone, nil
}

// PutUint64 gives the 8 big-endian bytes that consistent_index, term, authRevision and lease IDs are stored as.
func PutUint64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// Uint64 reads what PutUint64 wrote. ErrMalformed where b has another length.
func Uint64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: number %x", ErrMalformed, b)
	}
	return binary.BigEndian.Uint64(b), nil
}
