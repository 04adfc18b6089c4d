package mvcc

import (
	"context"
	"fmt"
	"sync/atomic"

	"keelson/internal/storage/schema"
)

// state is what a read stands on: a tree and the revision that its counts are of.
type state struct {
	s            *Store
	root         *node
	rev, compact int64
	cut          *atomic.Int64
}

// at gives the revision that o asks for and the tree to read it from; exact tells that the tree's counts are of
// that revision.
func (st *state) at(o RangeOptions) (on state, exact bool, err error) {
	on = *st
	switch {
	case o.Rev > st.rev:
		return on, false, ErrFutureRev
	case o.Rev > 0:
		on.rev = o.Rev
	}
	if on.rev < st.compact {
		return on, false, ErrCompacted
	}
	if on.rev == st.rev {
		return on, true, nil
	}
	if v := st.s.held.find(on.rev); v != nil {
		on.root = v.root
		return on, true, nil
	}
	return on, false, nil
}

// overtaken answers ErrCompacted if chains were cut above the revision that was just read. A reader that saw a cut
// sees its mark too: the mark was stored before.
func (st *state) overtaken() error {
	if st.cut.Load() > st.rev {
		return ErrCompacted
	}
	return nil
}

func (st *state) read(ctx context.Context, o RangeOptions) (RangeResult, error) {
	on, exact, err := st.at(o)
	if err != nil {
		return RangeResult{}, err
	}
	res := RangeResult{Rev: st.rev}
	if one(o.End) {
		err = on.readOne(ctx, o, &res)
	} else {
		err = on.readSpan(ctx, o, exact, &res)
	}
	if err == nil {
		err = on.overtaken()
	}
	if err != nil {
		return RangeResult{}, err
	}
	return res, nil
}

func (st *state) readOne(ctx context.Context, o RangeOptions, res *RangeResult) error {
	e := st.root.get(text(o.Key))
	if e == nil {
		return nil
	}
	v := e.at(st.rev)
	if v == nil {
		return nil
	}
	res.Count = 1
	if o.CountOnly {
		return nil
	}
	var got rows
	got.kvs = make([][]byte, 0, 1)
	got.add(v)
	return st.finish(ctx, o, &got, res)
}

// readSpan counts the span and collects it up to what o's limit needs.
func (st *state) readSpan(ctx context.Context, o RangeOptions, exact bool, res *RangeResult) error {
	sp := spanOf(o.Key, o.End)
	if sp.empty() {
		return nil
	}
	counted := exact
	if exact {
		res.Count = st.count(sp)
	}
	if o.CountOnly && counted {
		return nil
	}
	want := o.fetch()
	var got rows
	if exact && !o.CountOnly {
		got.kvs = make([][]byte, 0, min(want, res.Count))
	}
	var err error
	w := walk{span: sp, skipDead: exact, f: func(items []item) bool {
		if err = ctx.Err(); err != nil {
			return false
		}
		for i := range items {
			v := items[i].e.at(st.rev)
			if v == nil {
				continue
			}
			if !counted {
				res.Count++
			}
			if int64(len(got.kvs)) < want && !o.CountOnly {
				got.add(v)
			}
		}
		return !counted || int64(len(got.kvs)) < want
	}}
	if want > 0 {
		w.over(st.root)
	}
	if err != nil {
		return fmt.Errorf("mvcc: range: %w", err)
	}
	if o.CountOnly {
		return nil
	}
	return st.finish(ctx, o, &got, res)
}

// count gives the number of live keys in sp, where the tree's counts are of the state's revision.
func (st *state) count(sp span) int64 {
	below := st.root.rank(sp.lo, st.rev)
	if sp.bounded {
		return st.root.rank(sp.hi, st.rev) - below
	}
	return st.root.total(st.rev) - below
}

// finish fetches what left memory and filters, sorts and cuts as o says, in etcd's order.
func (st *state) finish(ctx context.Context, o RangeOptions, got *rows, res *RangeResult) error {
	if err := st.fill(ctx, got); err != nil {
		return err
	}
	got.arrange(o)
	if o.Limit > 0 && (int64(len(got.kvs)) > o.Limit || o.plain() && res.Count > o.Limit) {
		got.kvs = got.kvs[:min(o.Limit, int64(len(got.kvs)))]
		res.More = true
	}
	if o.KeysOnly {
		got.strip(o.Target == ByValue)
	}
	res.KVs = got.kvs
	return nil
}

// rows are the encoded KeyValues that a range found. Those that left memory are nil at first: missing
// lists their places and revs their revisions.
type rows struct {
	kvs     [][]byte
	missing []int
	revs    []schema.Revision
}

func (r *rows) add(v *version) {
	kv, ok := v.value()
	if !ok {
		r.missing = append(r.missing, len(r.kvs))
		r.revs = append(r.revs, v.rev())
	}
	r.kvs = append(r.kvs, kv)
}

// fill reads the missing rows from the history, all at once.
func (st *state) fill(ctx context.Context, r *rows) error {
	if len(r.missing) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mvcc: range: %w", err)
	}
	kvs, err := st.s.history.Values(r.revs)
	if err != nil {
		return fmt.Errorf("mvcc: read %d old values: %w", len(r.revs), err)
	}
	for i, at := range r.missing {
		if kvs[i] == nil {
			// Compaction deletes a value only after its chains were cut, so a whole file lacks none for a reader
			// that is not overtaken.
			if err := st.overtaken(); err != nil {
				return err
			}
			return fmt.Errorf("%w: %d.%d", ErrMissing, r.revs[i].Main, r.revs[i].Sub)
		}
		r.kvs[at] = kvs[i]
	}
	return nil
}
