package v2tree

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// keyspace is v3's keys, as dumb as can be: what a transaction does to them, and every older state.
type keyspace struct {
	rev  int64
	keys map[string]Entry
	past map[int64]snapshot
}

// snapshot is a View.
type snapshot struct {
	rev  int64
	keys map[string]Entry
}

func newKeyspace() *keyspace {
	s := &keyspace{rev: 1, keys: map[string]Entry{}, past: map[int64]snapshot{}}
	s.keep()
	return s
}

func (s *keyspace) keep() {
	held := map[string]Entry{}
	for k, e := range s.keys {
		held[k] = e
	}
	s.past[s.rev] = snapshot{s.rev, held}
}

func (v snapshot) Rev() int64 { return v.rev }

func (v snapshot) Get(key string) (Entry, bool, error) {
	e, ok := v.keys[key]
	return e, ok, nil
}

func (v snapshot) Scan(r Range, limit int64) ([]Entry, error) {
	var all []Entry
	for k, e := range v.keys {
		if k >= r.Key && k < r.End {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	if limit > 0 && int64(len(all)) > limit {
		all = all[:limit]
	}
	return all, nil
}

// run executes a transaction. It gives the changes, or false where a compare does not hold.
func (s *keyspace) run(t *pb.TxnRequest) ([]Change, bool, error) {
	now := s.past[s.rev]
	for _, c := range t.Compare {
		mods := []int64{0}
		if c.RangeEnd == nil {
			mods[0] = now.keys[string(c.Key)].Mod
		} else if all, _ := now.Scan(Range{string(c.Key), string(c.RangeEnd)}, 0); len(all) > 0 {
			mods = mods[:0]
			for _, e := range all {
				mods = append(mods, e.Mod)
			}
		}
		for _, mod := range mods {
			want := c.GetModRevision()
			if c.Result == pb.Compare_EQUAL && mod != want || c.Result == pb.Compare_LESS && mod >= want {
				return nil, false, nil
			}
		}
	}
	s.rev++
	var changes []Change
	put := map[string]bool{}
	for _, op := range t.Success {
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			key := string(o.RequestPut.Key)
			if put[key] {
				return nil, false, fmt.Errorf("%s is put twice", key)
			}
			put[key] = true
			changes = append(changes, s.change(key, o.RequestPut.Value, false, o.RequestPut.Lease))
		case *pb.RequestOp_RequestDeleteRange:
			r := Range{string(o.RequestDeleteRange.Key), string(o.RequestDeleteRange.RangeEnd)}
			if r.End == "" {
				r.End = r.Key + "\x00"
			}
			for k := range put {
				if k >= r.Key && k < r.End {
					return nil, false, fmt.Errorf("%s is put and deleted", k)
				}
			}
			all, _ := snapshot{keys: s.keys}.Scan(r, 0)
			for _, e := range all {
				changes = append(changes, s.change(e.Key, nil, true, 0))
			}
		}
	}
	// A put may not be deleted by an operation before it either.
	for _, op := range t.Success {
		if d := op.GetRequestDeleteRange(); d != nil {
			for k := range put {
				if k == string(d.Key) || len(d.RangeEnd) > 0 && k >= string(d.Key) && k < string(d.RangeEnd) {
					return nil, false, fmt.Errorf("%s is deleted and put", k)
				}
			}
		}
	}
	s.keep()
	return changes, true, nil
}

func (s *keyspace) change(key string, value []byte, deleted bool, lease int64) Change {
	old := s.keys[key]
	c := Change{Key: key, Deleted: deleted, Value: value, Mod: s.rev, Prev: old.Value, PrevMod: old.Mod}
	if deleted {
		delete(s.keys, key)
	} else {
		s.keys[key] = Entry{key, value, s.rev, lease}
	}
	return c
}

// expire ends one key as its lease does.
func (s *keyspace) expire(key string) []Change {
	s.rev++
	c := s.change(key, nil, true, 0)
	s.keep()
	return []Change{c}
}

// twin is a v2 store as its documentation tells it: a tree in memory, and an index.
type twin struct {
	index uint64
	root  *leaf
}

type leaf struct {
	path              string
	dir               bool
	value             string
	created, modified uint64
	expiry            int64
	below             map[string]*leaf
}

func newTwin() *twin {
	return &twin{index: 1, root: &leaf{path: "/", dir: true, below: map[string]*leaf{}}}
}

// find gives a node, or why there is none.
func (w *twin) find(p string) (*leaf, *Error) {
	at := w.root
	for _, name := range strings.FieldsFunc(p, func(r rune) bool { return r == '/' }) {
		if !at.dir {
			return nil, Refuse(NotDir, at.path, w.index)
		}
		next := at.below[name]
		if next == nil {
			return nil, Refuse(KeyNotFound, path.Join(at.path, name), w.index)
		}
		at = next
	}
	return at, nil
}

func (l *leaf) extern(now time.Time) *Extern {
	x := &Extern{Key: l.path, Dir: l.dir, ModifiedIndex: l.modified, CreatedIndex: l.created}
	if l.path == "/" {
		x.Key = ""
	}
	if !l.dir {
		x.Value = new(l.value)
	}
	if l.expiry != 0 {
		end := time.Unix(0, l.expiry).UTC()
		x.Expiration, x.TTL = &end, max(0, int64((end.Sub(now)+time.Second-1)/time.Second))
	}
	return x
}

// tree is a node with all below it.
func (l *leaf) tree(now time.Time) *Extern {
	x := l.extern(now)
	names := []string{}
	for name := range l.below {
		if !strings.HasPrefix(name, "_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		x.Nodes = append(x.Nodes, l.below[name].tree(now))
	}
	return x
}

// do makes a change. In order, the name is given: it is the tree's to choose.
func (w *twin) do(r Request, name string, now time.Time) (*Event, *Error) {
	a := r.Action()
	if r.InOrder {
		r.Path = Clean(r.Path + "/" + name)
	}
	if r.Path == "/" {
		if a == CompareAndDelete {
			return nil, Refuse(NotFile, "", w.index)
		}
		return nil, Refuse(RootReadOnly, "/", w.index)
	}
	if a == Set || a == Create {
		return w.make(r, a, now)
	}
	at, refused := w.find(r.Path)
	if refused != nil {
		return nil, refused
	}
	if at.dir && (a == CompareAndSwap || a == CompareAndDelete || a == Update && r.Value != "") {
		return nil, Refuse(NotFile, r.Path, w.index)
	}
	if a == CompareAndSwap || a == CompareAndDelete {
		if cause := mismatch(at, r); cause != "" {
			return nil, Refuse(TestFailed, cause, w.index)
		}
	}
	if a == Delete && at.dir && !r.Recursive {
		switch {
		case !r.Dir:
			return nil, Refuse(NotFile, r.Path, w.index)
		case len(at.below) > 0:
			return nil, Refuse(DirNotEmpty, r.Path, w.index)
		}
	}
	w.index++
	e := &Event{Action: a.String(), Index: w.index, PrevNode: at.extern(now)}
	if a.removes() {
		w.drop(at)
		e.Node = &Extern{Key: r.Path, Dir: at.dir, ModifiedIndex: w.index, CreatedIndex: at.created}
		return e, nil
	}
	e.Refresh = r.Refresh
	if !at.dir {
		at.modified = w.index
		if !r.Refresh {
			at.value = r.Value
		}
	}
	at.expiry = r.Expiry
	e.Node = at.extern(now)
	e.Node.ModifiedIndex = w.index
	return e, nil
}

func mismatch(at *leaf, r Request) string {
	var causes []string
	if r.PrevValue != "" && r.PrevValue != at.value {
		causes = append(causes, fmt.Sprintf("[%s != %s]", r.PrevValue, at.value))
	}
	if r.PrevIndex != 0 && r.PrevIndex != at.modified {
		causes = append(causes, fmt.Sprintf("[%d != %d]", r.PrevIndex, at.modified))
	}
	return strings.Join(causes, " ")
}

func (w *twin) make(r Request, a Action, now time.Time) (*Event, *Error) {
	old, refused := w.find(r.Path)
	if refused != nil && refused.Code == NotDir {
		return nil, refused
	}
	if r.Refresh && a == Set {
		if refused != nil {
			return nil, refused
		}
		r.Value = old.value
	}
	switch {
	case old != nil && a == Create:
		return nil, Refuse(NodeExist, r.Path, w.index)
	case old != nil && old.dir:
		return nil, Refuse(NotFile, r.Path, w.index)
	}
	w.index++
	e := &Event{Action: a.String(), Index: w.index, Refresh: r.Refresh && a == Set}
	if old != nil {
		e.PrevNode = old.extern(now)
	}
	at := w.root
	for _, dir := range Ancestors(r.Path) {
		next := at.below[path.Base(dir)]
		if next == nil {
			next = &leaf{path: dir, dir: true, created: w.index, modified: w.index, below: map[string]*leaf{}}
			at.below[path.Base(dir)] = next
		}
		at = next
	}
	n := &leaf{path: r.Path, dir: r.Dir, created: w.index, modified: w.index}
	if r.Dir {
		n.below = map[string]*leaf{}
	} else {
		n.value = r.Value
	}
	if r.Expiry >= expiryMin {
		n.expiry = r.Expiry
	}
	at.below[path.Base(r.Path)] = n
	e.Node = n.extern(now)
	return e, nil
}

func (w *twin) drop(at *leaf) {
	parent, _ := w.find(path.Dir(at.path))
	delete(parent.below, path.Base(at.path))
}

// expire ends a node.
func (w *twin) expire(at *leaf, now time.Time) *Event {
	w.index++
	e := &Event{
		Action: Expire.String(), Index: w.index, PrevNode: at.extern(now),
		Node: &Extern{Key: at.path, Dir: at.dir, ModifiedIndex: w.index, CreatedIndex: at.created},
	}
	w.drop(at)
	return e
}

// ending lists the nodes that have an expiry.
func (l *leaf) ending() []*leaf {
	var all []*leaf
	if l.expiry != 0 {
		all = append(all, l)
	}
	names := []string{}
	for name := range l.below {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		all = append(all, l.below[name].ending()...)
	}
	return all
}

// all lists the paths of a node and of what is below it.
func (l *leaf) all() []string {
	paths := []string{l.path}
	for _, child := range l.below {
		paths = append(paths, child.all()...)
	}
	slices.Sort(paths)
	return paths
}
