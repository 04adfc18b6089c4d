package rpc

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
)

// The ways an election's request fails; clients match on the texts.
var (
	// errNotLeader is returned when the leadership that was named is over.
	errNotLeader = errors.New("election: not leader")
	// errNoLeader is returned when nobody leads.
	errNoLeader = errors.New("election: no leader")
	// errNoLeaderKey is returned when a request names no leadership.
	errNoLeaderKey = errors.New(`"leader" field must be provided`)
)

// electionService serves v3electionpb.Election.
type electionService struct {
	electionpb.UnsafeElectionServer
	queue
}

// Campaign takes a place in the election's queue and waits for its turn.
func (s *electionService) Campaign(ctx context.Context, r *electionpb.CampaignRequest) (*electionpb.CampaignResponse, error) {
	lease, err := s.session(ctx, r.Lease)
	if err != nil {
		return nil, err
	}
	prefix := prefixOf(r.Name)
	l := &electionpb.LeaderKey{Name: r.Name, Key: keyOf(prefix, lease), Lease: lease}
	resp, err := s.kv.Txn(ctx, &pb.TxnRequest{
		Compare: ifCreatedAt(l.Key, 0),
		Success: []*pb.RequestOp{putOp(l.Key, r.Value, lease)},
		Failure: []*pb.RequestOp{getOp(&pb.RangeRequest{Key: l.Key})},
	})
	if err != nil {
		return nil, err
	}
	l.Rev = resp.Header.Revision
	if !resp.Succeeded {
		if err := s.rejoin(ctx, l, resp.Responses[0].Range, r.Value); err != nil {
			return nil, err
		}
	}
	if err := s.waitTurn(ctx, prefix, l.Rev-1); err != nil {
		if ctx.Err() != nil {
			// Where this fails too the key goes with its lease.
			_, _ = s.resign(context.WithoutCancel(ctx), l)
		}
		return nil, err
	}
	return &electionpb.CampaignResponse{Header: pbHeader(*resp.Header), Leader: l}, nil
}

// rejoin takes up a place that the same lease has already, with a new value where that differs.
func (s *electionService) rejoin(ctx context.Context, l *electionpb.LeaderKey, found *wire.RangeResponse, value []byte) error {
	kv, _, err := firstKV(found)
	if err != nil {
		return err
	}
	l.Rev = kv.Create
	if bytes.Equal(kv.Value, value) {
		return nil
	}
	if _, err := s.proclaim(ctx, l, value); err != nil {
		_, _ = s.resign(context.WithoutCancel(ctx), l)
		return err
	}
	return nil
}

// Proclaim changes the value of the leadership that r names, while it lasts.
func (s *electionService) Proclaim(ctx context.Context, r *electionpb.ProclaimRequest) (*electionpb.ProclaimResponse, error) {
	if r.Leader == nil {
		return nil, errNoLeaderKey
	}
	h, err := s.proclaim(ctx, r.Leader, r.Value)
	if err != nil {
		return nil, err
	}
	return &electionpb.ProclaimResponse{Header: pbHeader(h)}, nil
}

func (s *electionService) proclaim(ctx context.Context, l *electionpb.LeaderKey, value []byte) (wire.Header, error) {
	resp, err := s.kv.Txn(ctx, &pb.TxnRequest{
		Compare: ifCreatedAt(l.Key, l.Rev),
		Success: []*pb.RequestOp{putOp(l.Key, value, l.Lease)},
	})
	if err != nil {
		return wire.Header{}, err
	}
	if !resp.Succeeded {
		return wire.Header{}, errNotLeader
	}
	return *resp.Header, nil
}

// Resign ends the leadership that r names. One that is over already is no error.
func (s *electionService) Resign(ctx context.Context, r *electionpb.ResignRequest) (*electionpb.ResignResponse, error) {
	if r.Leader == nil {
		return nil, errNoLeaderKey
	}
	h, err := s.resign(ctx, r.Leader)
	if err != nil {
		return nil, err
	}
	return &electionpb.ResignResponse{Header: pbHeader(h)}, nil
}

func (s *electionService) resign(ctx context.Context, l *electionpb.LeaderKey) (wire.Header, error) {
	resp, err := s.kv.Txn(ctx, &pb.TxnRequest{
		Compare: ifCreatedAt(l.Key, l.Rev),
		Success: []*pb.RequestOp{deleteOp(l.Key)},
	})
	if err != nil {
		return wire.Header{}, err
	}
	return *resp.Header, nil
}

// Leader answers who has the turn.
func (s *electionService) Leader(ctx context.Context, r *electionpb.LeaderRequest) (*electionpb.LeaderResponse, error) {
	resp, err := s.kv.Range(ctx, first(prefixOf(r.Name)))
	if err != nil {
		return nil, err
	}
	kv, ok, err := firstKV(resp)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoLeader
	}
	return leaderResponse(*resp.Header, kv), nil
}

// Observe sends each leader's values, newest leader first known: who has the turn, what it proclaims, and then the
// next one. Some values may be passed over, the last one never is. It ends without an error when history that it
// needs is compacted.
func (s *electionService) Observe(r *electionpb.LeaderRequest, stream electionpb.Election_ObserveServer) error {
	ctx := stream.Context()
	prefix := prefixOf(r.Name)
	for {
		h, kv, err := s.awaitLeader(ctx, prefix)
		if err == nil {
			err = stream.Send(leaderResponse(h, kv))
		}
		if err == nil {
			err = s.followLeader(ctx, kv.Key, h.Revision+1, stream)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return endOfObservation(err)
		}
	}
}

// endOfObservation says how a stream ends whose watch or request failed: an observer that was cut off begins again.
func endOfObservation(err error) error {
	if errors.Is(err, mvcc.ErrCompacted) || errors.Is(err, errLostWatch) {
		return nil
	}
	return err
}

// awaitLeader gives the key with the turn, or the first that is put under prefix.
func (s *electionService) awaitLeader(ctx context.Context, prefix []byte) (h wire.Header, kv wire.KeyValue, err error) {
	resp, err := s.kv.Range(ctx, first(prefix))
	if err != nil {
		return h, kv, err
	}
	kv, ok, err := firstKV(resp)
	if err != nil || ok {
		return *resp.Header, kv, err
	}
	err = s.follow(ctx, prefix, endOf(prefix), resp.Header.Revision, func(eh wire.Header, e wire.Event) (bool, error) {
		if e.Delete {
			return true, nil
		}
		var err error
		kv, err = wire.ParseKeyValue(e.KV)
		// One answer may hold several revisions: the header is made that of the key.
		h, h.Revision = eh, kv.Mod
		return false, err
	})
	return h, kv, err
}

// followLeader sends what a leader proclaims, until its key is gone.
func (s *electionService) followLeader(ctx context.Context, key []byte, rev int64, stream electionpb.Election_ObserveServer) error {
	return s.follow(ctx, key, nil, rev, func(h wire.Header, e wire.Event) (bool, error) {
		if e.Delete {
			return false, nil
		}
		kv, err := wire.ParseKeyValue(e.KV)
		if err != nil {
			return false, err
		}
		return true, stream.Send(leaderResponse(h, kv))
	})
}

func leaderResponse(h wire.Header, kv wire.KeyValue) *electionpb.LeaderResponse {
	return &electionpb.LeaderResponse{Header: pbHeader(h), Kv: &mvccpb.KeyValue{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.Create, ModRevision: kv.Mod, Version: kv.Version, Lease: kv.Lease,
	}}
}
