package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

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
	logger    *zap.Logger
	// late counts questions that had no answer in time, failed those that ended otherwise without one; told is when the log last
	// said so, in Unix nanoseconds.
	late, failed, told atomic.Int64
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
		r.unanswered(err)
		return explainRead(err, ErrTimeout)
	}
	if err := r.loop.WaitApplied(ctx, index); err != nil {
		return explainRead(err, ErrTimeoutWaitAppliedIndex)
	}
	return nil
}

// settle returns once all is published that is committed as far as this member knows. While entries are applied, some of their
// effect shows outside of the view before.
func (r *reads) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if err := r.loop.WaitApplied(ctx, r.loop.Status().Commit); err != nil {
		return explainRead(err, ErrTimeoutWaitAppliedIndex)
	}
	return nil
}

// unanswered counts a question without an answer. Readers share questions, so of all that end within a second, one is told.
func (r *reads) unanswered(err error) {
	if errors.Is(err, context.Canceled) {
		return // the reader gave up
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		r.failed.Add(1)
		return
	}
	r.late.Add(1)
	now, last := r.clock.Now().UnixNano(), r.told.Load()
	if now-last >= int64(time.Second) && r.told.CompareAndSwap(last, now) {
		r.logger.Warn("timed out waiting for read index response (local node might have slow network)", zap.Duration("timeout", r.timeout))
	}
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
