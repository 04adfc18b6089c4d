package server

import (
	"context"
	"errors"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/clock"
	"keelson/internal/state/auth"
	"keelson/internal/state/lease"
)

// Leases grants, renews and revokes. Only the leader knows when a lease expires: renewals and questions for the time
// left go to it, on any member.
type Leases struct {
	identity
	table    *lease.Table
	proposer *proposer
	reads    *reads
	quota    *quota
	clock    clock.Clock
	leader   *leaderFinder
	auth     *authority
	// checkpoints: a leader notes what leases have left, and a renewal takes the note back.
	checkpoints bool
}

// leaseNotFoundTTL is the time left that is answered for a lease that isn't there.
const leaseNotFoundTTL = -1

// LeaseGrant makes a lease. Without an ID it gets one.
func (s *Leases) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if err := s.quota.allow(ctx, leaseCostBytes); err != nil {
		return nil, err
	}
	req := &pb.LeaseGrantRequest{TTL: r.TTL, ID: r.ID}
	for req.ID == 0 {
		req.ID = int64(s.proposer.waiters.ids.Next() & math.MaxInt64)
	}
	res, err := s.proposer.propose(ctx, &pb.InternalRaftRequest{LeaseGrant: req})
	if err != nil {
		return nil, err
	}
	resp := res.Resp.(*pb.LeaseGrantResponse)
	s.fillPB(resp.Header)
	return resp, nil
}

// LeaseRevoke ends a lease and deletes its keys.
func (s *Leases) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	res, err := s.proposer.propose(ctx, &pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: r.ID}})
	if err != nil {
		return nil, err
	}
	resp := res.Resp.(*pb.LeaseRevokeResponse)
	s.fillPB(resp.Header)
	return resp, nil
}

// LeaseRenew starts a lease's time anew and gives it in seconds, at the leader wherever that is.
func (s *Leases) LeaseRenew(ctx context.Context, id int64) (int64, error) {
	// Who may not end the keys of a lease may not make them last either.
	g, err := s.auth.now(ctx)
	if err == nil {
		err = g.May(auth.Access{Kind: auth.Login})
	}
	if err == nil {
		err = g.LeaseKeys(id, auth.Write)
	}
	if err != nil {
		return 0, err
	}
	var ttl int64
	err = s.leader.ask(ctx, func(ctx context.Context) error {
		var err error
		ttl, err = s.RenewHere(ctx, id)
		return err
	}, func(ctx context.Context, c Caller, urls []string) error {
		var err error
		ttl, err = c.LeaseRenew(ctx, urls, id)
		return err
	})
	return ttl, err
}

// RenewHere renews a lease on this member, which must lead.
func (s *Leases) RenewHere(ctx context.Context, id int64) (int64, error) {
	if err := s.reads.lead(ctx); err != nil {
		return 0, err
	}
	l, ok := s.table.Lookup(id)
	if !ok {
		// It may have been granted and not be applied here yet.
		if err := s.reads.linearize(ctx); err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.proposer.timeout)
	defer cancel()
	if s.checkpoints && l.Remaining > 0 {
		// The next leader must not count from what was left before this.
		if err := noteLeft(ctx, s.proposer, []lease.Lease{{ID: id}}); err != nil {
			return 0, err
		}
	}
	for {
		ttl, err := s.table.Renew(id, s.clock.Now())
		if errors.Is(err, lease.ErrNotFound) {
			return 0, s.gone(ctx)
		}
		if !errors.Is(err, lease.ErrExpired) {
			return ttl, err
		}
		// Its revocation is under way. Once that is applied the lease is gone; if this member stops leading first,
		// its successor has extended it.
		select {
		case <-s.table.WaitRevoked(id):
		case <-ctx.Done():
			return 0, explainRead(ctx.Err(), ErrTimeout)
		}
	}
}

// gone answers ErrNotFound once the keys of a lease that is not there are gone too: a revocation takes the lease out of the
// table before the view without its keys is published, and who heard of its end must not find them.
func (s *Leases) gone(ctx context.Context) error {
	if err := s.reads.settle(ctx); err != nil {
		return err
	}
	return lease.ErrNotFound
}

// LeaseTimeToLive tells how long a lease has, and its keys if asked. One that isn't there has -1.
func (s *Leases) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	var resp *pb.LeaseTimeToLiveResponse
	err := s.leader.ask(ctx, func(ctx context.Context) error {
		var err error
		resp, err = s.TimeToLiveHere(ctx, r)
		return err
	}, func(ctx context.Context, c Caller, urls []string) error {
		var err error
		resp, err = c.LeaseTimeToLive(ctx, urls, r)
		return err
	})
	if errors.Is(err, lease.ErrNotFound) {
		return &pb.LeaseTimeToLiveResponse{Header: s.headerPB(), ID: r.ID, TTL: leaseNotFoundTTL}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.mayRead(ctx, resp.Keys); err != nil {
		return nil, err
	}
	resp.Header = s.headerPB()
	return resp, nil
}

// mayRead tells whether the caller may read all of some keys.
func (s *Leases) mayRead(ctx context.Context, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	g, err := s.auth.now(ctx)
	if err != nil || g.May(auth.Access{Kind: auth.Admin}) == nil {
		return err
	}
	for _, k := range keys {
		if err := g.Range(k, nil); err != nil {
			return err
		}
	}
	return nil
}

// TimeToLiveHere answers for a lease on this member, which must lead.
func (s *Leases) TimeToLiveHere(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if err := s.reads.lead(ctx); err != nil {
		return nil, err
	}
	if err := s.reads.linearize(ctx); err != nil {
		return nil, err
	}
	l, ok := s.table.Lookup(r.ID)
	if !ok {
		return nil, s.gone(ctx)
	}
	left, ok := s.table.Remaining(r.ID, s.clock.Now())
	if !ok {
		return nil, lease.ErrNotPrimary
	}
	resp := &pb.LeaseTimeToLiveResponse{Header: s.headerPB(), ID: r.ID, TTL: left, GrantedTTL: l.TTL}
	if r.Keys {
		resp.Keys = s.table.Keys(r.ID)
	}
	return resp, nil
}

// LeaseLeases lists all leases as this member knows them, to who may read the keys of all of them.
func (s *Leases) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	g, err := s.auth.now(ctx)
	if err != nil {
		return nil, err
	}
	all := s.table.All()
	if g.View.Enabled() && g.May(auth.Access{Kind: auth.Admin}) != nil {
		for _, l := range all {
			if err := g.LeaseKeys(l.ID, auth.Read); err != nil {
				return nil, err
			}
		}
	}
	resp := &pb.LeaseLeasesResponse{Header: s.headerPB(), Leases: make([]*pb.LeaseStatus, len(all))}
	for i, l := range all {
		resp.Leases[i] = &pb.LeaseStatus{ID: l.ID}
	}
	return resp, nil
}

// leaderRetry is how long to wait before the leader is asked again: half a heartbeat's default.
const leaderRetry = 50 * time.Millisecond
