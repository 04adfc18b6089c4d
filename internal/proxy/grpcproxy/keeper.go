package grpcproxy

import (
	"context"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/internal/kit/backoff"
)

// errStopped is returned to calls that wait while the proxy stops.
var errStopped = rpctypes.ErrGRPCStopped

const (
	// pauseFirst and pauseMost are the pauses between attempts to reach the members again. Leases live for seconds.
	pauseFirst = 50 * time.Millisecond
	pauseMost  = time.Second
)

// keeper renews leases over one stream to a member. What waits when the stream breaks is asked again over the next, at
// another member: a client sees no more than a late answer.
type keeper struct {
	lease  *Lease
	caller caller
	users  int // guarded by lease.mu
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // holds one while queue may hold something

	mu    sync.Mutex // guards the rest
	turns map[int64]*turn
	queue []int64 // the leases to send, each in turns and here but once
}

// turn is those who wait for one lease. A member is asked for a lease once at a time.
type turn struct {
	// now wait for the answer under way or in the queue; next came when the question was sent already, which is too early
	// for them: the lease must be renewed after they asked.
	now, next []*keepAlives
	sent      bool
}

func newKeeper(s *Lease, c caller) *keeper {
	k := &keeper{lease: s, caller: c, wake: make(chan struct{}, 1), turns: map[int64]*turn{}}
	k.ctx, k.cancel = context.WithCancel(c.outgoing(s.ctx))
	return k
}

// ask renews lease id for c, which has room for the answer. It is false where c is gone.
func (k *keeper) ask(id int64, c *keepAlives) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.gone {
		return false
	}
	t := k.turns[id]
	switch {
	case t == nil:
		k.turns[id] = &turn{now: []*keepAlives{c}}
		k.enqueue(id)
	case t.sent:
		t.next = append(t.next, c)
	default:
		t.now = append(t.now, c)
	}
	return true
}

// forget takes c from those who wait, so that clients that come and go while no member answers leave nothing behind.
func (k *keeper) forget(c *keepAlives) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.gone = true
	isC := func(o *keepAlives) bool { return o == c }
	for id, t := range k.turns {
		t.now, t.next = slices.DeleteFunc(t.now, isC), slices.DeleteFunc(t.next, isC)
		if !t.sent && len(t.now) == 0 {
			delete(k.turns, id)
		}
	}
	k.queue = slices.DeleteFunc(k.queue, func(id int64) bool { return k.turns[id] == nil })
}

// enqueue has id sent. k.mu is held.
func (k *keeper) enqueue(id int64) {
	k.queue = append(k.queue, id)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run keeps a stream to a member until nobody needs it.
func (k *keeper) run() {
	pause := backoff.New(k.lease.clock, pauseFirst, pauseMost)
	for k.ctx.Err() == nil {
		answered, err := k.serve()
		if answered {
			pause.Reset()
		}
		if k.ctx.Err() != nil {
			return
		}
		if !passing(err) {
			k.fail(statusOf(err))
		}
		k.again()
		if pause.Wait(k.ctx) != nil {
			return
		}
	}
}

// serve opens a stream once there is something to send, and uses it until it breaks.
func (k *keeper) serve() (answered bool, err error) {
	select {
	case <-k.wake:
	case <-k.ctx.Done():
		return false, k.ctx.Err()
	}
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	stream, err := k.lease.remote.LeaseKeepAlive(ctx)
	if err != nil {
		return false, err
	}
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		k.send(ctx, stream)
	}()
	defer func() { cancel(); <-sending }()
	for {
		resp, err := stream.Recv()
		if err != nil {
			return answered, err
		}
		answered = true
		k.answer(resp)
	}
}

// send sends what is queued. A stream that takes nothing any more breaks the receive too, which is where it is told.
func (k *keeper) send(ctx context.Context, stream pb.Lease_LeaseKeepAliveClient) {
	for {
		for _, id := range k.take() {
			if stream.Send(&pb.LeaseKeepAliveRequest{ID: id}) != nil {
				return
			}
		}
		select {
		case <-k.wake:
		case <-ctx.Done():
			return
		}
	}
}

// take gives what is queued and counts it as sent.
func (k *keeper) take() []int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := k.queue
	k.queue = nil
	for _, id := range ids {
		k.turns[id].sent = true
	}
	return ids
}

// answer tells those who wait.
func (k *keeper) answer(resp *pb.LeaseKeepAliveResponse) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.turns[resp.ID]
	if t == nil || !t.sent {
		return
	}
	for _, c := range t.now {
		c.answers <- answer{resp: resp}
	}
	if len(t.next) == 0 {
		delete(k.turns, resp.ID)
		return
	}
	*t = turn{now: t.next}
	k.enqueue(resp.ID)
}

// fail tells all who wait that it can't be done.
func (k *keeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.turns {
		for _, c := range append(t.now, t.next...) {
			c.answers <- answer{err: err}
		}
	}
	k.turns, k.queue = map[int64]*turn{}, nil
}

// again queues whatever waits anew: its stream is gone.
func (k *keeper) again() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queue = nil
	for id, t := range k.turns {
		*t = turn{now: append(t.now, t.next...)}
		k.enqueue(id)
	}
}
