package server

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/apply"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
	"keelson/internal/replica/raftloop"
)

// proposeGrace is how long a request waits beyond two election time-outs: etcd's bound, in which a leader can be lost,
// another elected and the entry replicated.
const proposeGrace = 5 * time.Second

// proposer puts requests into the log and waits for what comes of them.
type proposer struct {
	loop    *raftloop.Loop
	waiters *waiters
	clock   clock.Clock
	// timeout bounds one request, bytesMax its size in the log (0: no bound).
	timeout, election time.Duration
	bytesMax          int
	// peerActive tells whether the connection to a member is up.
	peerActive func(id uint64) bool
	stats      *proposalStats
}

// propose runs a request through the log and gives what apply made of it.
func (p *proposer) propose(ctx context.Context, req *pb.InternalRaftRequest) (apply.Result, error) {
	w := p.waiters.register()
	if w == nil {
		return apply.Result{}, ErrTooManyRequests
	}
	req.Header = &pb.RequestHeader{ID: w.id}
	data, err := wire.AppendInternalRequest(nil, req)
	if err != nil {
		p.waiters.forget(w)
		return apply.Result{}, err
	}
	if p.bytesMax > 0 && len(data) > p.bytesMax {
		p.waiters.forget(w)
		return apply.Result{}, ErrRequestTooLarge
	}
	return p.await(ctx, w, func(ctx context.Context) error { return p.loop.Propose(ctx, data) })
}

// await hands a proposal over and waits for its result, the deadline or the member's end.
func (p *proposer) await(ctx context.Context, w *waiter, hand func(context.Context) error) (apply.Result, error) {
	start := p.clock.Now()
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	p.stats.pending.Add(1)
	defer p.stats.pending.Add(-1)
	if err := hand(ctx); err != nil {
		p.waiters.forget(w)
		return apply.Result{}, p.explain(ctx, err, start)
	}
	select {
	case r := <-w.ch:
		if r.Err != nil {
			return r, r.Err
		}
		return r, nil
	case <-ctx.Done():
		p.waiters.forget(w)
		p.stats.failed.Add(1)
		return apply.Result{}, p.explain(ctx, ctx.Err(), start)
	case <-p.loop.Done():
		p.waiters.forget(w)
		return apply.Result{}, ErrStopped
	}
}

// explain turns the end of a wait into etcd's words for its likely cause.
func (p *proposer) explain(ctx context.Context, err error, start time.Time) error {
	switch {
	case errors.Is(err, raftloop.ErrStopped):
		return ErrStopped
	case errors.Is(err, context.Canceled):
		return ErrCanceled
	case !errors.Is(err, context.DeadlineExceeded):
		return err
	}
	st := p.loop.Status()
	switch {
	case p.stats.leaderFailed(start, 2*p.election):
		return ErrTimeoutLeaderFail
	case st.Lead != 0 && st.Lead != st.ID && !p.peerActive(st.Lead):
		return ErrTimeoutConnLost
	}
	return ErrTimeout
}
