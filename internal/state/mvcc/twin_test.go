package mvcc

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"

	"golang.org/x/sync/errgroup"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// stored is one record of a file.
type stored struct {
	rev       schema.Revision
	tombstone bool
	kv        []byte
}

// file is a History in memory.
type file struct {
	mu      sync.Mutex
	records map[schema.Revision]stored
	calls   int
}

func newFile() *file { return &file{records: map[schema.Revision]stored{}} }

func (f *file) add(changes []Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		f.records[c.Rev] = stored{c.Rev, c.Delete, c.Stored()}
	}
}

func (f *file) drop(dead []schema.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rev := range dead {
		if _, ok := f.records[rev]; !ok {
			panic(fmt.Sprintf("%v was handed out as dead, and is not stored", rev))
		}
		delete(f.records, rev)
	}
}

func (f *file) sorted() []stored {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.records), func(a, b stored) int {
		if a.rev.Less(b.rev) {
			return -1
		}
		return 1
	})
}

func (f *file) Values(revs []schema.Revision) ([][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	kvs := make([][]byte, len(revs))
	for i, rev := range revs {
		if r, ok := f.records[rev]; ok {
			kvs[i] = append(make([]byte, 0, 1), r.kv...)
		}
	}
	return kvs, nil
}

func (f *file) Scan(from, to schema.Revision, g func(schema.Revision, bool, []byte) bool) error {
	for _, r := range f.sorted() {
		if !r.rev.Less(from) && r.rev.Less(to) && !g(r.rev, r.tombstone, r.kv) {
			return nil
		}
	}
	return nil
}

func (f *file) load(s *Store, scheduled, finished int64) error {
	return loadRecords(s, f.sorted(), 1+len(f.records)%4, scheduled, finished)
}

// loadRecords loads as the store hands out what it has: stretches and parts at the same time.
func loadRecords(s *Store, records []stored, stretches int, scheduled, finished int64) error {
	l := s.Loader()
	l.Begin(stretches)
	var adding errgroup.Group
	for i := range stretches {
		adding.Go(func() error {
			for _, r := range records[i*len(records)/stretches : (i+1)*len(records)/stretches] {
				if err := l.Add(i, r.rev, r.tombstone, r.kv); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := adding.Wait(); err != nil {
		return err
	}
	parts, err := l.Added()
	if err != nil {
		return err
	}
	var gathering sync.WaitGroup
	for i := range parts {
		gathering.Go(func() { l.Gather(i) })
	}
	gathering.Wait()
	l.Done(0, scheduled, finished)
	return nil
}

// past is one change that the twin remembers.
type past struct {
	rev       schema.Revision
	tombstone bool
	kv        wire.KeyValue
}

// twin is the key space as one list of all that ever happened.
type twin struct {
	all          []past
	rev, compact int64
}

// at gives what is live at rev, by key.
func (w *twin) at(rev int64) map[string]past {
	live := map[string]past{}
	for _, p := range w.all {
		if p.rev.Main > rev {
			break
		}
		if p.tombstone {
			delete(live, string(p.kv.Key))
		} else {
			live[string(p.kv.Key)] = p
		}
	}
	return live
}

func (w *twin) put(rev schema.Revision, key, value []byte, lease int64) (prev []byte) {
	kv := wire.KeyValue{Key: key, Value: value, Create: rev.Main, Mod: rev.Main, Version: 1, Lease: lease}
	if old, ok := w.at(rev.Main)[string(key)]; ok {
		kv.Create, kv.Version = old.kv.Create, old.kv.Version+1
		prev = wire.AppendKeyValue(nil, old.kv)
	}
	w.all = append(w.all, past{rev, false, kv})
	return prev
}

func (w *twin) in(key string, o RangeOptions) bool {
	switch {
	case len(o.End) == 0:
		return key == string(o.Key)
	case len(o.End) == 1 && o.End[0] == 0:
		return key >= string(o.Key)
	}
	return key >= string(o.Key) && key < string(o.End)
}

// answer is what etcd answers to o at a store whose revision is now, step by step as etcd goes.
func (w *twin) answer(o RangeOptions, now, compact int64) (RangeResult, error) {
	rev := o.Rev
	switch {
	case rev > now:
		return RangeResult{}, ErrFutureRev
	case rev <= 0:
		rev = now
	}
	if rev < compact {
		return RangeResult{}, ErrCompacted
	}
	var kvs []wire.KeyValue
	live := w.at(rev)
	for _, key := range slices.Sorted(maps.Keys(live)) {
		if w.in(key, o) {
			kvs = append(kvs, live[key].kv)
		}
	}
	res := RangeResult{Rev: now, Count: int64(len(kvs))}
	if o.CountOnly {
		return res, nil
	}
	plain := o.Order == SortNone || o.Target == ByKey && o.Order == SortAscend
	unfiltered := o.MinMod == 0 && o.MaxMod == 0 && o.MinCreate == 0 && o.MaxCreate == 0
	if plain && unfiltered && o.Limit > 0 && int64(len(kvs)) > o.Limit+1 {
		kvs = kvs[:o.Limit+1]
	}
	kvs = slices.DeleteFunc(kvs, func(kv wire.KeyValue) bool {
		return o.MaxMod != 0 && kv.Mod > o.MaxMod || o.MinMod != 0 && kv.Mod < o.MinMod ||
			o.MaxCreate != 0 && kv.Create > o.MaxCreate || o.MinCreate != 0 && kv.Create < o.MinCreate
	})
	if o.Target != ByKey || o.Order != SortNone {
		var by sort.Interface = byTarget{kvs, o.Target}
		if o.Order == SortDescend {
			by = sort.Reverse(by)
		}
		sort.Sort(by)
	}
	if o.Limit > 0 && int64(len(kvs)) > o.Limit {
		kvs, res.More = kvs[:o.Limit], true
	}
	for _, kv := range kvs {
		if o.KeysOnly {
			kv.Value = nil
			if o.Target != ByValue {
				kv.Lease = 0
			}
		}
		res.KVs = append(res.KVs, wire.AppendKeyValue(nil, kv))
	}
	return res, nil
}

type byTarget struct {
	kvs    []wire.KeyValue
	target SortTarget
}

func (b byTarget) Len() int      { return len(b.kvs) }
func (b byTarget) Swap(i, j int) { b.kvs[i], b.kvs[j] = b.kvs[j], b.kvs[i] }
func (b byTarget) Less(i, j int) bool {
	x, y := b.kvs[i], b.kvs[j]
	return []bool{
		bytes.Compare(x.Key, y.Key) < 0, x.Version < y.Version, x.Create < y.Create, x.Mod < y.Mod,
		bytes.Compare(x.Value, y.Value) < 0,
	}[b.target]
}

// kept gives the revisions that a file holds after the compaction is done: what is newer, each key's newest of the rest
// if live, and every tombstone that is just as old.
func (w *twin) kept() []schema.Revision {
	var revs []schema.Revision
	newest := map[string]past{}
	for _, p := range w.all {
		if p.rev.Main == w.compact && p.tombstone {
			revs = append(revs, p.rev)
		}
		if p.rev.Main <= w.compact {
			newest[string(p.kv.Key)] = p
		} else {
			revs = append(revs, p.rev)
		}
	}
	for _, p := range newest {
		if !p.tombstone {
			revs = append(revs, p.rev)
		}
	}
	slices.SortFunc(revs, func(a, b schema.Revision) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	return revs
}
