package v2http

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/state/auth"
	"keelson/internal/state/lease"
	"keelson/internal/state/v2tree"
)

const (
	// endsMax bounds the leases that this member remembers to end: 100,000 x 64 B and a path. Those past it end on their own, some
	// seconds late.
	endsMax = 100_000
	// revokesMax is how many are ended at once.
	revokesMax = 32
)

// ends looks after that what this member wrote ends in time: v3's own leases last for at least some seconds, are looked after in
// whole ones, and end a directory without what is below it. It revokes leases that no node uses any more, and deletes what
// directories left whose lease did end. What this member forgets, by a crash or for want of a leader, ends as every lease does.
// Its goroutines are joined by close.
type ends struct {
	member  Keys
	options Options

	mu   sync.Mutex // guards due
	due  dueHeap
	wake chan struct{}

	stop    context.CancelFunc
	running sync.WaitGroup
}

// due is something to do at a time: a lease to revoke, or a directory to end first.
type due struct {
	at    int64 // nanoseconds since 1970
	lease int64 // 0: none
	// freed: the lease is revoked only if no key is attached to it.
	freed bool
	// dir is the path of a directory, mod the revision that wrote it; 0: its lease has ended, and what it left is to go.
	dir string
	mod int64
}

func newEnds(m Keys, o Options) *ends {
	ctx, stop := context.WithCancel(auth.Itself(context.Background()))
	x := &ends{member: m, options: o, wake: make(chan struct{}, 1), stop: stop}
	x.running.Go(func() { x.run(ctx) })
	return x
}

func (x *ends) close() {
	x.stop()
	x.running.Wait()
}

// at has a node's lease end at a time.
func (x *ends) at(expiry, id int64) { x.add(due{at: expiry, lease: id}) }

// dirAt has a directory end at a time, with its lease.
func (x *ends) dirAt(expiry, id int64, dir string, mod int64) {
	x.add(due{at: expiry, lease: id, freed: true, dir: dir, mod: mod})
}

// left has deleted what a directory left.
func (x *ends) left(dir string) { x.add(due{dir: dir}) }

// now has a lease end that is of no use any more; 0 is none.
func (x *ends) now(id int64) {
	if id != 0 {
		x.add(due{lease: id, freed: true})
	}
}

func (x *ends) add(d due) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.due) < endsMax {
		heap.Push(&x.due, d)
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *ends) run(ctx context.Context) {
	room := make(chan struct{}, revokesMax)
	for {
		d, wait := x.next()
		if wait == 0 {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			x.running.Go(func() {
				x.end(ctx, d)
				<-room
			})
			continue
		}
		t := x.options.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-x.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// idleLook is how long run sleeps where nothing is due: it is woken when something comes.
const idleLook = time.Hour

// next gives a lease that is due, or how long to wait.
func (x *ends) next() (due, time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.due) == 0 {
		return due{}, idleLook
	}
	if left := x.due[0].at - x.options.Clock.Now().UnixNano(); left > 0 {
		return due{}, min(time.Duration(left), idleLook)
	}
	return heap.Pop(&x.due).(due), 0
}

func (x *ends) end(ctx context.Context, d due) {
	ctx, cancel := context.WithTimeout(ctx, x.options.Timeout)
	defer cancel()
	err := x.endDir(ctx, d)
	if err == nil && d.lease != 0 && !(d.freed && x.member.LeaseUsed(d.lease)) {
		_, err = x.member.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: d.lease})
	}
	if err != nil && !errors.Is(err, lease.ErrNotFound) && ctx.Err() == nil {
		x.options.Logger.Info("a lease of the v2 API is left to end by itself", zap.Int64("lease", d.lease), zap.Error(err))
	}
}

func (x *ends) endDir(ctx context.Context, d due) error {
	if d.dir == "" {
		return nil
	}
	txn, any := x.options.Prefix.Expiry(d.dir, d.mod), true
	if d.mod == 0 {
		var err error
		t := v2tree.Tree{Prefix: x.options.Prefix, View: view{ctx, x.member.View()}}
		if txn, any, err = t.Leftovers(d.dir); err != nil {
			return err
		}
	}
	if !any {
		return nil
	}
	_, err := x.member.Txn(ctx, txn)
	return err
}

// dueHeap is container/heap's: the first is the one that is due first.
type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(d any)        { *h = append(*h, d.(due)) }
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	*h = (*h)[:last]
	return d
}
