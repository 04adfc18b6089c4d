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
)

const (
	// endsMax bounds the leases that this member remembers to end: 100,000 x 32 B. Those past it end on their own, some
	// seconds late.
	endsMax = 100_000
	// revokesMax is how many are ended at once.
	revokesMax = 32
)

// ends revokes leases: those of nodes when the nodes expire, since v3's own leases last for at least some seconds and are
// looked after in whole ones, and those that no node uses any more. It is an improvement alone: what this member forgets, by
// a crash or for want of a leader, ends as every lease does. One goroutine, which close joins.
type ends struct {
	member  Keys
	options Options

	mu   sync.Mutex // guards due
	due  dueHeap
	wake chan struct{}

	stop    context.CancelFunc
	running sync.WaitGroup
}

// due is one lease to revoke. freed: only if no key is attached to it.
type due struct {
	at    int64 // nanoseconds since 1970
	lease int64
	freed bool
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

// at has a lease end at a time.
func (x *ends) at(expiry, id int64) { x.add(due{at: expiry, lease: id}) }

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
				x.revoke(ctx, d)
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

func (x *ends) revoke(ctx context.Context, d due) {
	if d.freed && x.member.LeaseUsed(d.lease) {
		return // somebody attached other keys to it
	}
	ctx, cancel := context.WithTimeout(ctx, x.options.Timeout)
	defer cancel()
	_, err := x.member.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: d.lease})
	if err != nil && !errors.Is(err, lease.ErrNotFound) && ctx.Err() == nil {
		x.options.Logger.Info("a lease of the v2 API is left to end by itself", zap.Int64("lease", d.lease), zap.Error(err))
	}
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
