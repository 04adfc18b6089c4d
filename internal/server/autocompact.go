package server

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/state/mvcc"
)

const (
	// compactEveryMax is the longest time between two compactions by time: a day's history is cut by the hour.
	compactEveryMax = time.Hour
	// compactSamples is how many revisions are noted in such a time, so that what is kept is at most a tenth too much.
	compactSamples = 10
	// compactByRevisionEvery is the time between two compactions that leave a number of revisions.
	compactByRevisionEvery = 5 * time.Minute
)

// autoCompactor forgets history by itself: what is older than a time, or more than a number of revisions. Times and the log's
// lines are etcd's. Every member notes revisions, so that a new leader knows them, and the leader alone compacts.
type autoCompactor struct {
	policy  config.Compaction
	rev     func() int64
	leads   func() bool
	compact func(ctx context.Context, rev int64) error
	clock   clock.Clock
	logger  *zap.Logger
}

func newAutoCompactor(kv *KV, policy config.Compaction, d Deps) *autoCompactor {
	return &autoCompactor{
		policy: policy, clock: d.Clock, logger: d.Logger,
		rev: func() int64 { return kv.view().Rev() },
		leads: func() bool {
			st := kv.loop.Status()
			return st.Lead == st.ID
		},
		compact: func(ctx context.Context, rev int64) error {
			_, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: rev})
			return err
		},
	}
}

// run compacts until ctx is done.
func (c *autoCompactor) run(ctx context.Context) {
	switch {
	case c.policy.Retention > 0:
		c.byTime(ctx)
	case c.policy.Revisions > 0:
		c.byRevisions(ctx)
	}
}

// byTime compacts to the revision of a retention ago: first after one retention, then each time one has passed, or an hour.
func (c *autoCompactor) byTime(ctx context.Context) {
	keep := c.policy.Retention
	every := min(keep, compactEveryMax)
	pause := every / compactSamples
	samples := make([]int64, 0, keep/pause+1) // the oldest is what the revision was a retention ago
	var done int64
	wait, last := keep, c.clock.Now()
	for {
		if len(samples) == cap(samples) {
			samples = append(samples[:0], samples[1:]...)
		}
		samples = append(samples, c.rev())
		if !c.sleep(ctx, pause) {
			return
		}
		rev := samples[0]
		if !c.leads() || c.clock.Now().Sub(last) < wait || rev == done {
			continue
		}
		wait = every
		if c.try(ctx, "periodic", rev, zap.Duration("compact-period", keep), pause) {
			done, last = rev, c.clock.Now()
		}
	}
}

// byRevisions compacts to the revision that leaves as many as are to be kept.
func (c *autoCompactor) byRevisions(ctx context.Context) {
	var done int64
	for c.sleep(ctx, compactByRevisionEvery) {
		rev := c.rev() - c.policy.Revisions
		if !c.leads() || rev <= 0 || rev == done {
			continue
		}
		if c.try(ctx, "revision", rev, zap.Int64("revision-compaction-retention", c.policy.Revisions), compactByRevisionEvery) {
			done = rev
		}
	}
}

// sleep waits, and tells whether ctx is still going on.
func (c *autoCompactor) sleep(ctx context.Context, d time.Duration) bool {
	t := c.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// try compacts and tells whether history up to rev is forgotten, by this call or another.
func (c *autoCompactor) try(ctx context.Context, mode string, rev int64, policy zap.Field, retry time.Duration) bool {
	start := c.clock.Now()
	c.logger.Info("starting auto "+mode+" compaction", zap.Int64("revision", rev), policy)
	err := c.compact(ctx, rev)
	took := zap.Duration("took", c.clock.Now().Sub(start))
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		c.logger.Warn("failed auto "+mode+" compaction", zap.Int64("revision", rev), policy, zap.Duration("retry-interval", retry), took, zap.Error(err))
		return false
	}
	c.logger.Info("completed auto "+mode+" compaction", zap.Int64("revision", rev), policy, took)
	return true
}
