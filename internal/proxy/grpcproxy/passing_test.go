package grpcproxy

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
)

// echo answers elections and locks with what it was asked for, and remembers that.
type echo struct {
	electionpb.ElectionClient
	lockpb.LockClient
	asked proto.Message
}

func (e *echo) Lock(_ context.Context, r *lockpb.LockRequest, _ ...grpc.CallOption) (*lockpb.LockResponse, error) {
	e.asked = r
	return &lockpb.LockResponse{Key: append(r.Name, "/1"...)}, nil
}

func (e *echo) Unlock(_ context.Context, r *lockpb.UnlockRequest, _ ...grpc.CallOption) (*lockpb.UnlockResponse, error) {
	e.asked = r
	return &lockpb.UnlockResponse{}, nil
}

func (e *echo) Campaign(_ context.Context, r *electionpb.CampaignRequest, _ ...grpc.CallOption) (*electionpb.CampaignResponse, error) {
	e.asked = r
	return &electionpb.CampaignResponse{Leader: &electionpb.LeaderKey{Name: r.Name, Key: append(r.Name, "/1"...), Rev: 3, Lease: r.Lease}}, nil
}

func (e *echo) Proclaim(_ context.Context, r *electionpb.ProclaimRequest, _ ...grpc.CallOption) (*electionpb.ProclaimResponse, error) {
	e.asked = r
	return &electionpb.ProclaimResponse{}, nil
}

func (e *echo) Leader(_ context.Context, r *electionpb.LeaderRequest, _ ...grpc.CallOption) (*electionpb.LeaderResponse, error) {
	e.asked = r
	return &electionpb.LeaderResponse{Kv: &mvccpb.KeyValue{Key: append(r.Name, "/1"...)}}, nil
}

// Locks and elections lie in the namespace, and their clients see nothing of it.
func TestNamespaceOfLocks(t *testing.T) {
	e := &echo{}
	lock := &lockService{to: e, space: space("ns/")}
	held, err := lock.Lock(t.Context(), &lockpb.LockRequest{Name: []byte("l"), Lease: 5})
	if want := (&lockpb.LockRequest{Name: []byte("ns/l"), Lease: 5}); err != nil || string(held.Key) != "l/1" || !proto.Equal(e.asked, want) {
		t.Errorf("%v, %v, asked %v", held, err, e.asked)
	}
	if _, err := lock.Unlock(t.Context(), &lockpb.UnlockRequest{Key: held.Key}); err != nil || !proto.Equal(e.asked, &lockpb.UnlockRequest{Key: []byte("ns/l/1")}) {
		t.Errorf("%v, asked %v", err, e.asked)
	}
	election := &electionService{to: e, space: space("ns/")}
	won, err := election.Campaign(t.Context(), &electionpb.CampaignRequest{Name: []byte("e"), Lease: 5, Value: []byte("me")})
	if want := (&electionpb.LeaderKey{Name: []byte("e"), Key: []byte("e/1"), Rev: 3, Lease: 5}); err != nil || !proto.Equal(won.Leader, want) {
		t.Errorf("%v, %v", won, err)
	}
	if _, err := election.Proclaim(t.Context(), &electionpb.ProclaimRequest{Leader: won.Leader, Value: []byte("v")}); err != nil {
		t.Error(err)
	}
	if want := (&electionpb.LeaderKey{Name: []byte("ns/e"), Key: []byte("ns/e/1"), Rev: 3, Lease: 5}); !proto.Equal(e.asked.(*electionpb.ProclaimRequest).Leader, want) {
		t.Errorf("asked %v", e.asked)
	}
	if _, err := election.Proclaim(t.Context(), &electionpb.ProclaimRequest{}); err != nil || e.asked.(*electionpb.ProclaimRequest).Leader != nil {
		t.Errorf("without a leader: %v, asked %v", err, e.asked)
	}
	shown, err := election.Leader(t.Context(), &electionpb.LeaderRequest{Name: []byte("e")})
	if err != nil || string(shown.Kv.Key) != "e/1" || string(e.asked.(*electionpb.LeaderRequest).Name) != "ns/e" {
		t.Errorf("%v, %v, asked %v", shown, err, e.asked)
	}
}

// A call goes on under its caller's token, and nothing else of its metadata does. A token that was set for it is kept.
func TestAsCaller(t *testing.T) {
	in := metadata.NewIncomingContext(t.Context(), metadata.Pairs("token", "a", "authorization", "b", "hasleader", "true", "other", "c"))
	out, _ := metadata.FromOutgoingContext(asCaller(in))
	if len(out) != 3 || out.Get("token")[0] != "a" || out.Get("authorization")[0] != "b" || out.Get("hasleader")[0] != "true" {
		t.Errorf("%v", out)
	}
	out, _ = metadata.FromOutgoingContext(asCaller(metadata.AppendToOutgoingContext(in, "token", "own")))
	if got := out.Get("token"); len(got) != 1 || got[0] != "own" {
		t.Errorf("%v", out)
	}
	if _, ok := metadata.FromOutgoingContext(asCaller(t.Context())); ok {
		t.Error("metadata out of nowhere")
	}
}

// A call that no member has seen is made again, and one that was seen only where it changes nothing.
func TestMayRepeat(t *testing.T) {
	unsent := status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp: connection refused"`)
	broken := status.Error(codes.Unavailable, "error reading from server: EOF")
	for _, c := range []struct {
		method string
		err    error
		want   bool
	}{
		{pb.KV_Put_FullMethodName, unsent, true}, {pb.KV_Put_FullMethodName, broken, false}, {pb.KV_Range_FullMethodName, broken, true},
		{pb.KV_Range_FullMethodName, rpctypes.ErrGRPCNoLeader, false}, {pb.KV_Range_FullMethodName, rpctypes.ErrGRPCInvalidAuthToken, false}, {pb.KV_Range_FullMethodName, nil, false},
	} {
		if got := mayRepeat(c.method, c.err); got != c.want {
			t.Errorf("%s after %v: %v", c.method, c.err, got)
		}
	}
}
