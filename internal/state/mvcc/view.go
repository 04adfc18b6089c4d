package mvcc

import "context"

// View is the state at one published revision. It never changes and holds nothing but memory; it may be used
// by any goroutine. Held for long, it may be overtaken by a compaction: its reads then answer ErrCompacted.
type View struct {
	state
	live     int64
	replaced int64
	beside   any
}

// Beside gives what was published with the view.
func (v *View) Beside() any { return v.beside }

// Rev is the revision of the view.
func (v *View) Rev() int64 { return v.rev }

// CompactRev is the revision of the last compaction that the view knows of, -1 where there was none.
func (v *View) CompactRev() int64 { return v.compact }

// Keys is the number of live keys.
func (v *View) Keys() int64 { return v.live }

// Range reads as o says. It answers ErrCompacted and ErrFutureRev for revisions it cannot see; other
// errors are the context's and the history's.
func (v *View) Range(ctx context.Context, o RangeOptions) (RangeResult, error) {
	v.s.counts.Ranges.Add(1)
	return v.read(ctx, o)
}

// Get gives the encoded KeyValue of key at the view's revision; ok is false where it is not live. The error is
// ErrCompacted, or the history's.
func (v *View) Get(key []byte) (kv []byte, ok bool, err error) {
	res, err := v.read(context.Background(), RangeOptions{Key: key})
	if err != nil || len(res.KVs) == 0 {
		return nil, false, err
	}
	return res.KVs[0], true, nil
}
