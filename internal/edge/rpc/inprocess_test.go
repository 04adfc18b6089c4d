package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
)

// inProcess is the name of the test whose fixtures have no socket.
const inProcess = "TestInProcess"

// What holds for gRPC holds for the connection in this process: the same tests again.
func TestInProcess(t *testing.T) {
	for name, again := range map[string]func(*testing.T){
		"KV": TestKV, "TooLarge": TestTooLargeForTheServer, "Gate": TestGate, "GateAsks": TestGateAsks, "Streams": TestStreamsEndWithoutALeader, "Watch": TestWatch,
		"WatchFilters": TestWatchFiltersAndCompaction, "WatchAsks": TestWatchAsks, "Lease": TestLease, "Maintenance": TestClusterAndMaintenance, "Health": TestHealth,
		"Metrics": TestMetrics, "SlowLog": TestSlowLog, "Lock": TestLockIsHandedOn, "LockErrors": TestLockErrors, "Election": TestElection, "Campaign": TestCampaignGivenUpLeavesTheQueue,
	} {
		t.Run(name, again)
	}
}

// A reply that takes anything gets the member's own answer.
func TestInProcessWithoutACopy(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	f.put(t, "a", "1")
	var got any
	if err := f.srv.InProcess().Invoke(ctx, pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("a")}, &got); err != nil {
		t.Fatal(err)
	}
	if r, ok := got.(*wire.RangeResponse); !ok || r.Count != 1 {
		t.Errorf("%T %v", got, got)
	}
	if err := f.srv.InProcess().Invoke(ctx, pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{}, &got); err != nil {
		t.Fatal(err)
	}
	if _, ok := got.(*pb.StatusResponse); !ok {
		t.Errorf("%T %v", got, got)
	}
}

func TestInProcessMisuse(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	c := f.srv.InProcess()
	for _, x := range []struct {
		method     string
		ask, reply any
		want       error
	}{
		{pb.KV_Put_FullMethodName, &pb.RangeRequest{Key: []byte("a")}, &pb.PutResponse{}, errForeign},
		{pb.KV_Put_FullMethodName, "a put", &pb.PutResponse{}, errForeign},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte("a")}, "an answer", errForeign},
		{pb.Maintenance_Status_FullMethodName, &pb.PutRequest{Key: []byte("a")}, &pb.StatusResponse{}, errForeign},
		{pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{}, &pb.PutResponse{}, errForeign},
	} {
		if err := c.Invoke(ctx, x.method, x.ask, x.reply); !errors.Is(err, x.want) {
			t.Errorf("%s, %T, %T: %v", x.method, x.ask, x.reply, err)
		}
	}
	if err := c.Invoke(ctx, "/etcdserverpb.KV/Nothing", &pb.PutRequest{}, &pb.PutResponse{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	if _, err := c.NewStream(ctx, nil, pb.KV_Put_FullMethodName); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

// The connection that a call came by says nothing here, whatever its context holds.
func TestInProcessHasNoCertificate(t *testing.T) {
	f, ctx := serve(t, Options{ClientCertAuth: true}), testContext(t)
	var seen []*auth.Credentials
	f.rules.Store(&rules{may: func(c *auth.Credentials, _ auth.Kind) error {
		seen = append(seen, c)
		return nil
	}})
	chain := [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "tom"}}}}
	ctx = peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: chain}}})
	c := pb.NewMaintenanceClient(f.srv.InProcess())
	for _, with := range []context.Context{ctx, metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer t")} {
		if _, err := c.Status(with, &pb.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 || seen[0] != nil || seen[1] == nil || seen[1].Token != "t" {
		t.Errorf("%+v", seen)
	}
}

// Close ends streams with a reason, and lets nothing in after it.
func TestInProcessEnds(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	c := f.srv.InProcess()
	w, err := pb.NewWatchClient(c).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create(t, w, &pb.WatchCreateRequest{Key: []byte("a")})
	f.srv.Close()
	_, err = w.Recv()
	wantError(t, err, rpctypes.ErrGRPCStopped)
	if err := w.Send(&pb.WatchRequest{}); !errors.Is(err, io.EOF) {
		// One request may still find its place; then the stream is over.
		if err = w.Send(&pb.WatchRequest{}); !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
	}
	_, err = pb.NewKVClient(c).Put(ctx, &pb.PutRequest{Key: []byte("a")})
	wantError(t, err, rpctypes.ErrGRPCStopped)
	_, err = pb.NewWatchClient(c).Watch(ctx)
	wantError(t, err, rpctypes.ErrGRPCStopped)
}

// A caller that goes away ends its stream's handler.
func TestInProcessGivenUp(t *testing.T) {
	f := serve(t, Options{})
	ctx, cancel := context.WithCancel(testContext(t))
	w, err := pb.NewWatchClient(f.srv.InProcess()).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create(t, w, &pb.WatchCreateRequest{Key: []byte("a")})
	cancel()
	if _, err := w.Recv(); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	f.srv.local.running.Wait()
}
