package v2tree

import (
	"fmt"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Request is one change that a client asks for.
type Request struct {
	// Path is clean.
	Path  string
	Value string
	Dir   bool
	// InOrder makes a node with a name of its own in the directory Path; Remove deletes. Without either the request writes.
	InOrder, Remove, Recursive bool
	// PrevValue and PrevIndex, if they are not zero, must be the node's.
	PrevValue string
	PrevIndex uint64
	// PrevExist asks for a node that exists, or for one that does not; nil takes either.
	PrevExist *bool
	// Refresh keeps the value, and tells nobody who watches.
	Refresh bool
	// Expiry is when the node shall end, in nanoseconds since 1970; 0 for never. Lease is what its key is attached to.
	Expiry int64
	Lease  int64
}

// expiryMin is 2000-01-01, before which an expiry counts as none where a node is made, as in 3.4: clients that compute
// dates get such times from a zero.
const expiryMin = 946684800 * int64(time.Second)

// Action is what a request does if it succeeds.
func (r Request) Action() Action {
	compares := r.PrevIndex > 0 || r.PrevValue != ""
	switch {
	case r.Remove && compares:
		return CompareAndDelete
	case r.Remove:
		return Delete
	case r.InOrder:
		return Create
	case r.PrevExist != nil && !*r.PrevExist:
		return Create
	case compares:
		return CompareAndSwap
	case r.PrevExist != nil:
		return Update
	}
	return Set
}

// Expires tells whether the node that a request writes shall end, so that its key needs a lease.
func (r Request) Expires() bool {
	switch r.Action() {
	case Set, Create:
		return r.Expiry >= expiryMin
	case Update, CompareAndSwap:
		return r.Expiry != 0
	}
	return false
}

// Plan is a change that would succeed on the state that was looked at: the transaction that makes it, if nothing that it
// depends on has changed since.
type Plan struct {
	Txn    *pb.TxnRequest
	action Action
	at     place  // what is written
	prev   *place // what was there
}

// Freed is the lease that the key of the node was attached to and will not be any more; 0 for none.
func (p *Plan) Freed() int64 {
	if p.prev == nil {
		return 0
	}
	return p.prev.lease
}

// Event is what happened, once the transaction was made at revision rev.
func (p *Plan) Event(rev int64, now time.Time) *Event {
	if p.action.removes() {
		return removed(p.action, p.prev, rev, now)
	}
	at := p.at
	at.mod = rev
	if at.node.Created == 0 {
		at.node.Created = uint64(rev)
	}
	return written(&at, p.prev, now)
}

// Plan decides what a request does to the tree. The error is an *Error where the request is refused, else the view's.
func (t Tree) Plan(r Request) (*Plan, error) {
	a := r.Action()
	if r.Path == "/" && a == CompareAndDelete {
		return nil, t.refuse(NotFile, "") // 3.4 does not look whether it is the root here
	}
	if r.Path == "/" && !r.InOrder {
		return nil, t.refuse(RootReadOnly, "/")
	}
	switch a {
	case Set:
		return t.set(r)
	case Create:
		return t.create(r)
	case Update, CompareAndSwap:
		return t.change(r, a)
	}
	return t.remove(r, a)
}

// draft is a transaction being put together.
type draft struct {
	prefix Prefix
	rev    int64
	txn    *pb.TxnRequest
}

func (t Tree) draft() *draft {
	return &draft{prefix: t.Prefix, rev: t.View.Rev(), txn: &pb.TxnRequest{}}
}

// expect makes the transaction depend on the revision that wrote a key, 0 for one that must not be there.
func (d *draft) expect(key string, mod int64) {
	d.txn.Compare = append(d.txn.Compare, &pb.Compare{
		Key: []byte(key), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: mod},
	})
}

// expectAll is expect for nodes that exist.
func (d *draft) expectAll(above []place) {
	for i := range above {
		d.expect(d.prefix.Node(above[i].path), above[i].mod)
	}
}

// untouched makes the transaction depend on that nobody wrote in a range since the view.
func (d *draft) untouched(r Range) {
	d.txn.Compare = append(d.txn.Compare, &pb.Compare{
		Key: []byte(r.Key), RangeEnd: []byte(r.End), Target: pb.Compare_MOD, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: d.rev + 1},
	})
}

func (d *draft) put(key string, value []byte, lease int64) {
	d.txn.Success = append(d.txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: value, Lease: lease},
	}})
}

func (d *draft) delete(key string) { d.deleteRange(Range{Key: key}) }

func (d *draft) deleteRange(r Range) {
	req := &pb.DeleteRangeRequest{Key: []byte(r.Key)}
	if r.End != "" {
		req.RangeEnd = []byte(r.End)
	}
	d.txn.Success = append(d.txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req}})
}

// clear deletes all that is kept of a directory but its marker.
func (d *draft) clear(dir string) {
	d.deleteRange(d.prefix.Below(dir))
	d.delete(d.prefix.Order(dir))
	d.deleteRange(d.prefix.OrderBelow(dir))
}

// Expiry is the transaction that ends a directory whose time has come, with all below it in one revision, if it is still the
// one that revision mod wrote. Without it the directory's lease ends its marker alone.
func (p Prefix) Expiry(dir string, mod int64) *pb.TxnRequest {
	d := &draft{prefix: p, txn: &pb.TxnRequest{}}
	d.expect(p.Node(dir), mod)
	d.delete(p.Node(dir))
	d.clear(dir)
	return d.txn
}

// Leftovers is the transaction that deletes what a directory left whose lease has ended, unless it was made again. It is
// no event: the nodes went with the directory.
func (t Tree) Leftovers(dir string) (txn *pb.TxnRequest, any bool, err error) {
	at, err := t.get(dir)
	if err != nil || at != nil {
		return nil, false, err
	}
	left, err := t.View.Scan(t.Prefix.Below(dir), 1)
	if err != nil || len(left) == 0 {
		return nil, false, err
	}
	d := t.draft()
	d.expect(t.Prefix.Node(dir), 0)
	d.clear(dir)
	return d.txn, true, nil
}

// Writes is the path of the node that the plan writes, and whether it is a directory.
func (p *Plan) Writes() (path string, dir bool) { return p.at.path, p.at.node.Dir }

// set makes a node, in the place of a file if there is one.
func (t Tree) set(r Request) (*Plan, error) {
	w, err := t.walk(r.Path)
	if err != nil {
		return nil, err
	}
	if w.blocker != nil {
		return nil, t.refuse(NotDir, w.blocker.path)
	}
	if r.Refresh {
		if err := t.found(w, r.Path); err != nil {
			return nil, err
		}
		r.Value = w.at.node.Value
	}
	if w.at != nil && w.at.node.Dir {
		return nil, t.refuse(NotFile, r.Path)
	}
	return t.make(t.draft(), w, r, Set)
}

// create makes a node where there is none.
func (t Tree) create(r Request) (*Plan, error) {
	d := t.draft()
	if r.InOrder {
		name, err := t.nextName(d, r.Path)
		if err != nil {
			return nil, err
		}
		r.Path = Clean(r.Path + "/" + name)
	}
	w, err := t.walk(r.Path)
	switch {
	case err != nil:
		return nil, err
	case w.blocker != nil:
		return nil, t.refuse(NotDir, w.blocker.path)
	case w.at != nil:
		return nil, t.refuse(NodeExist, r.Path)
	}
	return t.make(d, w, r, Create)
}

// nextName gives the name of the next node that is made in order in a directory: the revision that will make it if nobody
// else writes meanwhile, and in any case more than the last one. So names grow in the order of the commits, and are never
// above the revision, which is why a directory that is made anew needs no memory of the old one's.
func (t Tree) nextName(d *draft, dir string) (string, error) {
	key := t.Prefix.Order(dir)
	last, ok, err := t.View.Get(key)
	if err != nil {
		return "", err
	}
	next := t.View.Rev() + 1
	if ok {
		if n, err := strconv.ParseInt(string(last.Value), 10, 64); err == nil {
			next = max(next, n+1)
		}
	}
	d.expect(key, last.Mod)
	d.put(key, strconv.AppendInt(nil, next, 10), 0)
	return fmt.Sprintf("%020d", next), nil
}

// make writes a new node and the directories above it that are missing.
func (t Tree) make(d *draft, w trail, r Request, a Action) (*Plan, error) {
	d.expectAll(w.above)
	// The first node of the way that does not exist. What is left below it of something that expired must not come back,
	// whatever the view had not seen of it yet.
	top := r.Path
	if w.missing != "" {
		top = w.missing
	}
	made := []string{}
	for _, dir := range append(Ancestors(r.Path), r.Path) {
		if len(dir) >= len(top) {
			made = append(made, dir)
		}
	}
	if w.at != nil {
		d.expect(t.Prefix.Node(r.Path), w.at.mod)
	} else {
		d.expect(t.Prefix.Node(top), 0)
		d.untouched(t.Prefix.Below(top))
		if err := t.sweep(d, top, made); err != nil {
			return nil, err
		}
	}
	parent := Node{Action: a, Dir: true, Implicit: true}.Encode()
	for _, dir := range made[:len(made)-1] {
		d.put(t.Prefix.Node(dir), parent, 0)
	}
	n := Node{Action: a, Dir: r.Dir, Refresh: r.Refresh && a == Set}
	if !r.Dir {
		n.Value = r.Value
	}
	var lease int64
	if r.Expires() {
		n.Expiry, lease = r.Expiry, r.Lease
	}
	d.put(t.Prefix.Node(r.Path), n.Encode(), lease)
	return &Plan{Txn: d.txn, action: a, at: place{path: r.Path, node: n}, prev: w.at}, nil
}

// sweep deletes what is left below a node that does not exist, but for the keys that the transaction writes there, which are
// in order.
func (t Tree) sweep(d *draft, top string, written []string) error {
	below := t.Prefix.Below(top)
	if left, err := t.View.Scan(below, 1); err != nil || len(left) == 0 {
		return err
	}
	for _, p := range written {
		key := t.Prefix.Node(p)
		if key < below.Key {
			continue // the top itself
		}
		if below.Key < key {
			d.deleteRange(Range{below.Key, key})
		}
		below.Key = key + "\x00"
	}
	d.deleteRange(below)
	return nil
}

// change writes a node that exists, and keeps the index at which it was created.
func (t Tree) change(r Request, a Action) (*Plan, error) {
	w, err := t.walk(r.Path)
	if err == nil {
		err = t.found(w, r.Path)
	}
	if err != nil {
		return nil, err
	}
	old := w.at.node
	if old.Dir && (a == CompareAndSwap || r.Value != "") {
		return nil, t.refuse(NotFile, r.Path)
	}
	if a == CompareAndSwap {
		if err := t.matches(w.at, r); err != nil {
			return nil, err
		}
	}
	n := Node{Action: a, Dir: old.Dir, Created: old.Created, Expiry: r.Expiry, Value: r.Value, Refresh: r.Refresh}
	if r.Refresh {
		n.Value = old.Value
	}
	if old.Dir {
		n.Modified = old.Modified
	}
	d := t.draft()
	d.expectAll(w.above)
	d.expect(t.Prefix.Node(r.Path), w.at.mod)
	d.put(t.Prefix.Node(r.Path), n.Encode(), r.Lease)
	return &Plan{Txn: d.txn, action: a, at: place{path: r.Path, node: n}, prev: w.at}, nil
}

// matches refuses a node that is not what the request expects; the cause tells both.
func (t Tree) matches(at *place, r Request) error {
	index := r.PrevIndex == 0 || r.PrevIndex == uint64(at.mod)
	value := r.PrevValue == "" || r.PrevValue == at.node.Value
	indexes := fmt.Sprintf("[%d != %d]", r.PrevIndex, at.mod)
	values := fmt.Sprintf("[%s != %s]", r.PrevValue, at.node.Value)
	switch {
	case index && value:
		return nil
	case value:
		return t.refuse(TestFailed, indexes)
	case index:
		return t.refuse(TestFailed, values)
	}
	return t.refuse(TestFailed, values+" "+indexes)
}

// remove deletes a node. Its record is written in the same transaction: who watches would take the deletion for an
// expiry without it.
func (t Tree) remove(r Request, a Action) (*Plan, error) {
	w, err := t.walk(r.Path)
	if err == nil {
		err = t.found(w, r.Path)
	}
	if err != nil {
		return nil, err
	}
	d := t.draft()
	if err := t.mayRemove(d, w.at, r, a); err != nil {
		return nil, err
	}
	d.expectAll(w.above)
	key := t.Prefix.Node(r.Path)
	d.expect(key, w.at.mod)
	d.put(t.Prefix.Removed(), Removal{Action: a, Dir: w.at.node.Dir, Created: w.at.node.Created, Path: r.Path}.Encode(), 0)
	d.delete(key)
	if w.at.node.Dir {
		d.clear(r.Path)
	}
	return &Plan{Txn: d.txn, action: a, prev: w.at}, nil
}

// mayRemove refuses a directory that was not asked for as one, or that is not empty; only recursive deletes that.
func (t Tree) mayRemove(d *draft, at *place, r Request, a Action) error {
	if a == CompareAndDelete {
		if at.node.Dir {
			return t.refuse(NotFile, r.Path)
		}
		return t.matches(at, r)
	}
	if !at.node.Dir || r.Recursive {
		return nil
	}
	if !r.Dir {
		return t.refuse(NotFile, r.Path)
	}
	empty := true
	err := t.children(r.Path, func(*place) bool {
		empty = false
		return false
	})
	if err != nil {
		return err
	}
	if !empty {
		return t.refuse(DirNotEmpty, r.Path)
	}
	// What expired may have left something deeper: it goes too.
	d.untouched(t.Prefix.Below(r.Path))
	return nil
}
