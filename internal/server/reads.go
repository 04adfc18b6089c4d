package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
)

// reads makes sure that what this member shows is not older than what was acknowledged when the read began.
type reads struct {
	loop    *raftloop.Loop
	clock   clock.Clock
	timeout time.Duration
	// fresh is how long a confirmed leadership counts without asking the others again.
	fresh     time.Duration
	confirmed atomic.Int64 // Unix nanoseconds of the last confirmation in confirmedTerm
	term      atomic.Uint64
}

// linearize returns once the published view is recent enough for a linearizable read.
func (r *reads) linearize(ctx context.Context) error {
	if r.loop.LocalRead() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	index, err := r.loop.ReadIndex(ctx)
	if err != nil {
		return explainRead(err, ErrTimeout)
	}
	if err := r.loop.WaitApplied(ctx, index); err != nil {
		return explainRead(err, ErrTimeoutWaitAppliedIndex)
	}
	return nil
}

// lead tells whether this member leads, as confirmed by a majority a short while ago at most: less than half an
// election time-out, in which nobody else can have been elected by those who confirmed.
func (r *reads) lead(ctx context.Context) error {
	st := r.loop.Status()
	if st.Lead != st.ID || st.ID == 0 {
		return ErrNotLeader
	}
	if r.loop.LocalRead() {
		return nil
	}
	asked := r.clock.Now()
	if r.term.Load() == st.Term && asked.UnixNano()-r.confirmed.Load() < int64(r.fresh) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if _, err := r.loop.ReadIndex(ctx); err != nil {
		return explainRead(err, ErrTimeout)
	}
	if now := r.loop.Status(); now.Lead != now.ID || now.Term != st.Term {
		return ErrNotLeader
	}
	r.confirmed.Store(asked.UnixNano())
	r.term.Store(st.Term)
	return nil
}

// explainRead turns the end of a read's wait into etcd's words.
func explainRead(err, timeout error) error {
	switch {
	case errors.Is(err, raftloop.ErrStopped):
		return ErrStopped
	case errors.Is(err, context.DeadlineExceeded):
		return timeout
	case errors.Is(err, context.Canceled):
		return ErrCanceled
	}
	return err
}
