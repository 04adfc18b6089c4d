package grpcproxy

import (
	"bytes"
	"context"
	"slices"

	"keelson/internal/kit/lockpb"
)

// space is the prefix that this proxy's clients do not see, of all their keys; empty for none.
type space []byte

func (s space) into(key []byte) []byte { return slices.Concat(s, key) }

func (s space) outOf(key []byte) []byte { return bytes.TrimPrefix(key, s) }

// lockService passes v3lockpb.Lock on. Locks are keys, and lie in the namespace like all others; etcd's proxy leaves them
// outside of it.
type lockService struct {
	lockpb.UnsafeLockServer
	to lockpb.LockClient
	space
}

func (s *lockService) Lock(ctx context.Context, r *lockpb.LockRequest) (*lockpb.LockResponse, error) {
	resp, err := s.to.Lock(ctx, &lockpb.LockRequest{Name: s.into(r.Name), Lease: r.Lease})
	if err != nil {
		return nil, err
	}
	resp.Key = s.outOf(resp.Key)
	return resp, nil
}

func (s *lockService) Unlock(ctx context.Context, r *lockpb.UnlockRequest) (*lockpb.UnlockResponse, error) {
	return s.to.Unlock(ctx, &lockpb.UnlockRequest{Key: s.into(r.Key)})
}
