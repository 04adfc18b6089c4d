package server

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/apply"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/alarm"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
)

// proposeGrace is how long a request waits beyond two election time-outs: etcd's bound, in which a leader can be lost,
// another elected and the entry replicated.
const proposeGrace = 5 * time.Second

// proposer puts requests into the log and waits for what comes of them. The goroutine that ends long waits is started by
// expire.
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
	observe    *Observer
	// auth, alarms and reads are asked who may propose.
	auth   *authority
	alarms *alarm.Set
	reads  *reads
}

// propose runs a request through the log and gives what apply made of it.
func (p *proposer) propose(ctx context.Context, req *pb.InternalRaftRequest) (apply.Result, error) {
	by, err := p.sign(ctx, req)
	if err != nil {
		return apply.Result{}, err
	}
	w := p.waiters.register(ctx, p.clock.Now())
	if w == nil {
		return apply.Result{}, ErrTooManyRequests
	}
	req.Header = &pb.RequestHeader{ID: w.id, Username: by.User, AuthRevision: by.Revision}
	data, err := wire.AppendInternalRequest(nil, req)
	if err == nil && p.bytesMax > 0 && len(data) > p.bytesMax {
		err = ErrRequestTooLarge
	}
	if err != nil {
		p.waiters.forget(w)
		return apply.Result{}, err
	}
	p.stats.pending.Add(1)
	defer p.stats.pending.Add(-1)
	if !p.loop.Offer(w, data) {
		// The queue is full: this is rare enough to pay for a timer.
		var cancel context.CancelFunc
		w.Context, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
		if err := p.loop.Propose(w, data); err != nil {
			p.waiters.forget(w)
			return apply.Result{}, p.explain(err, w.began)
		}
	}
	r, err := p.await(w)
	p.observe.request(apply.NameOf(req), err == nil || r.Err != nil, p.clock.Now().Sub(w.began))
	return r, err
}

// sign gives who asks, for the entry's header. Who may not is refused here already, so that strangers fill no log. What this
// member knows may be old: before a refusal it catches up. Apply asks again, and its word counts.
func (p *proposer) sign(ctx context.Context, req *pb.InternalRaftRequest) (auth.Caller, error) {
	if req.Authenticate != nil || !p.auth.rules().Enabled() { // who asks for a token has none
		return auth.Caller{}, nil
	}
	g, err := p.auth.now(ctx)
	if err != nil {
		return auth.Caller{}, err
	}
	if apply.Refused(&g, p.alarms, req) == nil {
		return g.Caller, nil
	}
	if err := p.reads.linearize(ctx); err != nil {
		return auth.Caller{}, err
	}
	if g, err = p.auth.now(ctx); err != nil {
		return auth.Caller{}, err
	}
	return g.Caller, apply.Refused(&g, p.alarms, req)
}

// proposeConf runs a change of membership through the log and gives the membership as it then was. Raft works by the new
// configuration by then.
func (p *proposer) proposeConf(ctx context.Context, cc *raftpb.ConfChange) (*cluster.State, error) {
	w := p.waiters.register(ctx, p.clock.Now())
	if w == nil {
		return nil, ErrTooManyRequests
	}
	var cancel context.CancelFunc
	w.Context, cancel = context.WithTimeout(ctx, p.timeout)
	defer cancel()
	cc.Id = new(w.id)
	p.stats.pending.Add(1)
	defer p.stats.pending.Add(-1)
	if err := p.loop.ProposeConfChange(w, cc); err != nil {
		p.waiters.forget(w)
		return nil, p.explain(err, w.began)
	}
	res, err := p.await(w)
	if err != nil {
		return nil, err
	}
	return res.Resp.(*cluster.State), nil
}

// await waits for the result of a proposal that was handed over, its deadline or the member's end.
func (p *proposer) await(w *waiter) (apply.Result, error) {
	var err error
	select {
	case r := <-w.ch:
		p.waiters.recycle(w.ch)
		if r.Err == nil || !errors.Is(r.Err, context.DeadlineExceeded) {
			return r, r.Err
		}
		err = r.Err
	case <-w.Done():
		err = w.Err()
	case <-p.loop.Done():
		err = raftloop.ErrStopped
	}
	p.waiters.forget(w)
	p.stats.failed.Add(1)
	return apply.Result{}, p.explain(err, w.began)
}

// expireInterval is how much longer than its timeout, of seconds, a request may wait: one look at all waiters then costs
// less than a timer for each.
const expireInterval = 100 * time.Millisecond

// expire ends the waits that last longer than the timeout, until ctx is done.
func (p *proposer) expire(ctx context.Context) {
	tick := p.clock.NewTicker(expireInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.waiters.expire(p.clock.Now(), p.timeout)
		}
	}
}

// explain turns the end of a wait into etcd's words for its likely cause.
func (p *proposer) explain(err error, start time.Time) error {
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
