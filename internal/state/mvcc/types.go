package mvcc

import "keelson/internal/storage/schema"

// History reads superseded values that have left memory from the store that follows. Its methods are
// called off the apply path (but for a range at an old revision inside a transaction) and may block on disk.
type History interface {
	// Values gives the stored bytes at each of revs, in their order: an encoded mvccpb.KeyValue.
	// A revision that is not stored gives nil.
	Values(revs []schema.Revision) ([][]byte, error)
	// Scan calls f for every stored revision in [from, to) in order, until f answers false. The bytes are
	// f's to keep. A tombstone's kv holds the key alone.
	Scan(from, to schema.Revision, f func(rev schema.Revision, tombstone bool, kv []byte) bool) error
}

// Change is one put or delete of a finished transaction, in the order it happened. The bytes are shared
// and never changed.
type Change struct {
	Rev    schema.Revision
	Delete bool
	Key    []byte
	// KV is the event's encoded mvccpb.KeyValue. A put's is stored as it is; a delete's holds key and
	// mod_revision and is sent to watchers, while the store gets Stored.
	KV []byte
	// Prev is the encoded mvccpb.KeyValue that this change superseded, nil where the key was not live.
	Prev []byte
	// Lease is attached by this change, PrevLease was attached before it (0: none).
	Lease, PrevLease int64
}

// SortTarget and SortOrder mirror etcdserverpb.RangeRequest's enums, value for value.
type (
	SortTarget int32
	SortOrder  int32
)

// The sort orders and targets.
const (
	SortNone, SortAscend, SortDescend          SortOrder  = 0, 1, 2
	ByKey, ByVersion, ByCreate, ByMod, ByValue SortTarget = 0, 1, 2, 3, 4
)

// RangeOptions says what to read. End nil: the one key. End {0}: from Key on. Rev 0: the view's own.
type RangeOptions struct {
	Key, End                             []byte
	Rev, Limit                           int64
	Order                                SortOrder
	Target                               SortTarget
	KeysOnly, CountOnly                  bool
	MinMod, MaxMod, MinCreate, MaxCreate int64
}

// RangeResult is what a range found: encoded mvccpb.KeyValue messages, how many keys are in the range
// in all, and whether the limit left some out.
type RangeResult struct {
	KVs   [][]byte
	Count int64
	More  bool
	// Rev is the revision of the view that answered (not the one asked for).
	Rev int64
}
