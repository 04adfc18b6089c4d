package server

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/lease"
)

// How the leader ends leases: it looks twice a second, takes at most a thousand at a time and keeps at most 64
// revocations in the log's pipe, so that a storm of expiries is spread and never crowds out writers.
const (
	leaseLookInterval  = 500 * time.Millisecond
	leaseRevokesMax    = 1000
	leaseRevokesFlying = 64
)

// leaseKeeper makes the leader responsible for expiry and revokes what expired. Its one goroutine is started by run.
type leaseKeeper struct {
	table    *lease.Table
	loop     *raftloop.Loop
	proposer *proposer
	reads    *reads
	clock    clock.Clock
	// extend is what a new leader adds to every lease: its predecessor may have renewed one an election time-out ago.
	extend time.Duration
	// led is signalled when this member applied the first entry of a term that it leads.
	led chan struct{}
	// expired, if set, is called for each lease that is ended.
	expired func()
	logger  *zap.Logger
}

// run keeps leases until ctx is done.
func (k *leaseKeeper) run(ctx context.Context) {
	tick := k.clock.NewTicker(leaseLookInterval)
	defer tick.Stop()
	var flying sync.WaitGroup
	defer flying.Wait()
	slots := make(chan struct{}, leaseRevokesFlying)
	for {
		changed := k.loop.LeaderChanged()
		select {
		case <-ctx.Done():
			return
		case <-k.led:
			k.table.Promote(k.clock.Now(), k.extend)
		case <-changed:
			if st := k.loop.Status(); st.Lead != st.ID {
				k.table.Demote()
			}
		case <-tick.C:
			if k.table.IsPrimary() {
				k.revoke(ctx, &flying, slots)
			}
		}
	}
}

// revoke proposes the end of what expired. Leadership is confirmed first: a deposed leader must not end leases that
// its successor extended.
func (k *leaseKeeper) revoke(ctx context.Context, flying *sync.WaitGroup, slots chan struct{}) {
	expired := k.table.Advance(k.clock.Now(), leaseRevokesMax)
	if len(expired) == 0 || k.reads.lead(ctx) != nil {
		return
	}
	for _, id := range expired {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		flying.Go(func() {
			defer func() { <-slots }()
			req := &pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: id}}
			_, err := k.proposer.propose(ctx, req)
			switch {
			case err == nil && k.expired != nil:
				k.expired()
			case err != nil && !errors.Is(err, lease.ErrNotFound):
				// Advance hands it out again.
				k.logger.Warn("failed to revoke an expired lease; it will be tried again", zap.Int64("lease-id", id), zap.Error(err))
			}
		})
	}
}
