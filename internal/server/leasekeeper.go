package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/auth"
	"keelson/internal/state/lease"
)

// How the leader ends leases: it looks twice a second, takes at most a thousand at a time and keeps at most 64
// revocations in the log's pipe, so that a storm of expiries is spread and never crowds out writers.
const (
	leaseLookInterval  = 500 * time.Millisecond
	leaseRevokesMax    = 1000
	leaseRevokesFlying = 64
)

// How the leader notes what leases have left (feature gate LeaseCheckpoint): after five minutes without a renewal, as etcd,
// within half a minute of that; at most a thousand leases an entry, which is some 20 KB.
const (
	leaseCheckpointWear = 5 * time.Minute
	leaseCheckpointLook = 30 * time.Second
	leaseCheckpointsMax = 1000
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
	// led is signalled when this member applied the first entry of a term that it leads; ledTerm is that term.
	led     chan struct{}
	ledTerm atomic.Uint64
	// promoted is the term in which the table got its deadlines. It belongs to run's goroutine.
	promoted uint64
	// wear is how much of its time a lease loses before that is noted for the next leader; 0: it never is, and every new
	// leader gives leases their whole time. Every look is the time between two walks over all leases, looked the last one.
	wear, look time.Duration
	looked     time.Time
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
		k.follow(k.loop.Status())
		select {
		case <-ctx.Done():
			return
		case <-k.led:
			k.promote(k.loop.Status())
		case <-changed:
		case <-tick.C:
			if k.table.IsPrimary() {
				k.revoke(ctx, &flying, slots)
				k.checkpoint(ctx, &flying)
			}
		}
	}
}

// promote gives leases their deadlines if the term whose first entry was applied is still the present one.
func (k *leaseKeeper) promote(st raftloop.Status) {
	if st.Lead == st.ID && st.Term == k.ledTerm.Load() {
		k.promoted = st.Term
		k.table.Promote(k.clock.Now(), k.extend)
	}
}

// follow forgets deadlines of another term. A leader that was deposed and elected again has them no more: whoever led
// in between renewed leases, and their time begins anew with the new term's first entry.
func (k *leaseKeeper) follow(st raftloop.Status) {
	if k.table.IsPrimary() && !k.inOffice(st) {
		k.table.Demote()
	}
}

func (k *leaseKeeper) inOffice(st raftloop.Status) bool {
	return st.Lead == st.ID && st.Term == k.promoted
}

// revoke proposes the end of what expired. Leadership is confirmed first: a deposed leader must not end leases that
// its successor extended.
func (k *leaseKeeper) revoke(ctx context.Context, flying *sync.WaitGroup, slots chan struct{}) {
	expired := k.table.Advance(k.clock.Now(), leaseRevokesMax)
	if len(expired) == 0 || k.reads.lead(ctx) != nil || !k.inOffice(k.loop.Status()) {
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
			_, err := k.proposer.propose(auth.Itself(ctx), req)
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

// checkpoint notes for the next leader what leases have left that nobody renewed for a while. A deposed leader does not:
// it knows nothing of its successor's renewals.
func (k *leaseKeeper) checkpoint(ctx context.Context, flying *sync.WaitGroup) {
	now := k.clock.Now()
	if k.wear <= 0 || now.Sub(k.looked) < k.look {
		return
	}
	k.looked = now
	worn := k.table.Worn(now, k.wear)
	if len(worn) == 0 || k.reads.lead(ctx) != nil || !k.inOffice(k.loop.Status()) {
		return
	}
	term := k.promoted
	flying.Go(func() {
		for part := range slices.Chunk(worn, leaseCheckpointsMax) {
			if st := k.loop.Status(); st.Lead != st.ID || st.Term != term {
				return
			}
			if err := noteLeft(ctx, k.proposer, part); err != nil {
				k.logger.Warn("failed to note what leases have left; it will be tried again", zap.Error(err))
				return
			}
		}
	})
}

// noteLeft proposes a checkpoint of leases: Remaining is what each has left, 0 for its whole time.
func noteLeft(ctx context.Context, p *proposer, leases []lease.Lease) error {
	r := &pb.LeaseCheckpointRequest{}
	for _, l := range leases {
		r.Checkpoints = append(r.Checkpoints, &pb.LeaseCheckpoint{ID: l.ID, Remaining_TTL: l.Remaining})
	}
	_, err := p.propose(ctx, &pb.InternalRaftRequest{LeaseCheckpoint: r})
	return err
}
