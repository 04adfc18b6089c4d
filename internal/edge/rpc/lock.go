package rpc

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/lockpb"
	"keelson/internal/kit/wire"
)

// errSessionExpired is returned when the lease of one who waited for a lock ended before its turn came.
var errSessionExpired = errors.New("mutex: session is expired")

// lockService serves v3lockpb.Lock.
type lockService struct {
	lockpb.UnsafeLockServer
	queue
}

// Lock takes a place in the lock's queue and waits for its turn. Who waits in vain leaves the queue.
func (s *lockService) Lock(ctx context.Context, r *lockpb.LockRequest) (*lockpb.LockResponse, error) {
	lease, err := s.session(ctx, r.Lease)
	if err != nil {
		return nil, err
	}
	prefix := prefixOf(r.Name)
	key := keyOf(prefix, lease)
	header, rev, mine, err := s.enter(ctx, prefix, key, lease)
	if err != nil {
		return nil, err
	}
	if mine {
		return &lockpb.LockResponse{Header: pbHeader(header), Key: key}, nil
	}
	if err := s.waitTurn(ctx, prefix, rev-1); err != nil {
		return nil, s.leave(ctx, key, err)
	}
	// The lease may have ended meanwhile, and the key with it.
	resp, err := s.kv.Range(ctx, &pb.RangeRequest{Key: key})
	if err != nil {
		return nil, s.leave(ctx, key, err)
	}
	if len(resp.KVs) == 0 {
		return nil, errSessionExpired
	}
	return &lockpb.LockResponse{Header: pbHeader(*resp.Header), Key: key}, nil
}

// enter makes key, or finds it where the same lease waits already, and says at which revision it was created and
// whether it has the turn.
func (s *lockService) enter(ctx context.Context, prefix, key []byte, lease int64) (h wire.Header, rev int64, mine bool, err error) {
	resp, err := s.kv.Txn(ctx, &pb.TxnRequest{
		Compare: ifCreatedAt(key, 0),
		Success: []*pb.RequestOp{putOp(key, nil, lease), getOp(first(prefix))},
		Failure: []*pb.RequestOp{getOp(&pb.RangeRequest{Key: key}), getOp(first(prefix))},
	})
	if err != nil {
		return h, 0, false, err
	}
	rev = resp.Header.Revision
	if !resp.Succeeded {
		own, _, err := firstKV(resp.Responses[0].Range)
		if err != nil {
			return h, 0, false, err
		}
		rev = own.Create
	}
	owner, ok, err := firstKV(resp.Responses[1].Range)
	return *resp.Header, rev, !ok || owner.Create == rev, err
}

// leave deletes key, whatever became of the caller, and answers why. Where that fails too the key goes with its lease;
// the member bounds how long it tries.
func (s *lockService) leave(ctx context.Context, key []byte, why error) error {
	_, _ = s.kv.DeleteRange(context.WithoutCancel(ctx), &pb.DeleteRangeRequest{Key: key})
	return why
}

func (s *lockService) Unlock(ctx context.Context, r *lockpb.UnlockRequest) (*lockpb.UnlockResponse, error) {
	resp, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: r.Key})
	if err != nil {
		return nil, err
	}
	return &lockpb.UnlockResponse{Header: pbHeader(*resp.Header)}, nil
}
