package grpcproxy

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3/leasing"
	"google.golang.org/grpc/metadata"

	"keelson/internal/kit/clock"
)

// What a proxy holds a lease on is answered without the members, but never to users, each of whom may see something else.
func TestLeasingIsNotForUsers(t *testing.T) {
	f := serve(t)
	f.put("k", "1")
	leased, stop, err := leasing.NewKV(f.direct, "leases/")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	s := &layered{kv: leased, plain: f.direct.KV, cache: newCache(clock.System)}
	get := &pb.RangeRequest{Key: []byte("k")}
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: get}}}}
	for range 2 {
		if r, err := s.Range(t.Context(), get); err != nil || r.Count != 1 {
			t.Fatal(r, err)
		}
	}
	enableAuth(t, f.direct)
	// It has the lease: without a user that was ever seen, it answers.
	if r, err := s.Range(t.Context(), get); err != nil || r.Count != 1 {
		t.Fatal(r, err)
	}
	a, err := pb.NewAuthClient(f.direct.ActiveConnection()).Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "other", Password: "other"})
	if err != nil {
		t.Fatal(err)
	}
	other := metadata.NewIncomingContext(t.Context(), metadata.Pairs(rpctypes.TokenFieldNameGRPC, a.Token))
	if r, err := s.Range(other, get); !errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
		t.Error(r, err)
	}
	if r, err := s.Txn(other, txn); !errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
		t.Error(r, err)
	}
	if r, err := s.Range(t.Context(), get); !errors.Is(err, rpctypes.ErrGRPCUserEmpty) {
		t.Error(r, err)
	}
	if r, err := s.Txn(t.Context(), txn); !errors.Is(err, rpctypes.ErrGRPCUserEmpty) {
		t.Error(r, err)
	}
}
