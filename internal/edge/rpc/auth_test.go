package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
	"keelson/internal/state/auth"
)

// TestEveryMethodHasARule looks at all that is served, and at nothing else.
func TestEveryMethodHasARule(t *testing.T) {
	f := serve(t, Options{})
	for service, info := range f.srv.GetServiceInfo() {
		for _, m := range info.Methods {
			full := "/" + service + "/" + m.Name
			r, ok := ruleOf(full)
			if !ok || !r.anybody && r.need == auth.Denied && r.by == nil {
				t.Errorf("%s has no rule: it is refused", full)
			}
		}
	}
	if _, ok := ruleOf("/etcdserverpb.KV/New"); ok {
		t.Error("a method that is not there has a rule")
	}
	g := &gate{state: f.testMember}
	if err := g.authorize(t.Context(), &method{}, nil); !errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
		t.Error("a method without a rule:", err)
	}
}

// TestGateAsks makes calls and looks at what the gate asked for them.
func TestGateAsks(t *testing.T) {
	f := serve(t, Options{})
	var asked []auth.Kind
	f.rules.Store(&rules{may: func(c *auth.Credentials, kind auth.Kind) error {
		if c == nil || !c.HasToken || c.Token != "tom" {
			return auth.ErrUserEmpty
		}
		asked = append(asked, kind)
		return auth.ErrDenied
	}})
	ctx := metadata.AppendToOutgoingContext(testContext(t), rpctypes.TokenFieldNameGRPC, "tom", rpctypes.TokenFieldNameSwagger, "other")
	lease, maintenance := pb.NewLeaseClient(f.conn), pb.NewMaintenanceClient(f.conn)
	for name, call := range map[string]func(context.Context) error{
		"grant": func(ctx context.Context) error { _, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{}); return err },
		"compact": func(ctx context.Context) error {
			_, err := f.kv.Compact(ctx, &pb.CompactionRequest{})
			return err
		},
		"list alarms": func(ctx context.Context) error { _, err := maintenance.Alarm(ctx, &pb.AlarmRequest{}); return err },
		"raise": func(ctx context.Context) error {
			_, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE})
			return err
		},
		"snapshot": func(ctx context.Context) error {
			s, err := maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
	} {
		asked = nil
		want := auth.Admin
		if name == "grant" || name == "list alarms" {
			want = auth.Login
		}
		if err := call(ctx); status.Convert(err).Message() != auth.ErrDenied.Error() || !slices.Equal(asked, []auth.Kind{want}) {
			t.Errorf("%s: %v, asked for %v", name, err, asked)
		}
		if err := call(testContext(t)); status.Convert(err).Message() != auth.ErrUserEmpty.Error() {
			t.Errorf("%s without a token: %v", name, err)
		}
	}
	_, err := lockpb.NewLockClient(f.conn).Lock(testContext(t), &lockpb.LockRequest{Name: []byte("l")})
	if s := status.Convert(err); s.Message() != auth.ErrUserEmpty.Error() || s.Code().String() != "Unknown" {
		t.Error("lock:", err)
	}
	_, err = electionpb.NewElectionClient(f.conn).Campaign(testContext(t), &electionpb.CampaignRequest{Name: []byte("l")})
	if status.Convert(err).Message() != auth.ErrUserEmpty.Error() {
		t.Error("campaign:", err)
	}
	f.put(t, "a", "1") // the member asks about keys
}

// TestCredentials: a token comes before a certificate, which counts only where clients have to bring one, and not for who
// calls through the JSON gateway.
func TestCredentials(t *testing.T) {
	chain := [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "tom"}}}}
	with := func(state tls.ConnectionState, kv ...string) context.Context {
		ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
		return metadata.NewIncomingContext(ctx, metadata.Pairs(kv...))
	}
	for name, x := range map[string]struct {
		ctx       context.Context
		certified bool
		want      *auth.Credentials
	}{
		"nothing":               {t.Context(), true, nil},
		"certificate":           {with(tls.ConnectionState{VerifiedChains: chain}), true, &auth.Credentials{CommonName: "tom", Certified: true}},
		"not verified":          {with(tls.ConnectionState{PeerCertificates: chain[0]}), true, nil},
		"certificate not asked": {with(tls.ConnectionState{VerifiedChains: chain}), false, nil},
		"gateway":               {with(tls.ConnectionState{VerifiedChains: chain}, "grpcgateway-accept", "*/*"), true, nil},
		"token":                 {with(tls.ConnectionState{VerifiedChains: chain}, "token", "t"), true, &auth.Credentials{Token: "t", HasToken: true}},
		"empty token":           {with(tls.ConnectionState{VerifiedChains: chain}, "token", ""), true, &auth.Credentials{HasToken: true}},
		"bearer":                {with(tls.ConnectionState{}, "token", "Bearer t"), true, &auth.Credentials{Token: "t", HasToken: true}},
		"through the gateway":   {with(tls.ConnectionState{}, "authorization", "Bearer t", "grpcgateway-accept", "x"), true, &auth.Credentials{Token: "t", HasToken: true}},
	} {
		g := &gate{certified: x.certified}
		got := g.credentials(x.ctx)
		if got == nil || x.want == nil {
			if got != x.want {
				t.Errorf("%s: %+v", name, got)
			}
		} else if *got != *x.want {
			t.Errorf("%s: %+v, want %+v", name, *got, *x.want)
		}
	}
}

// TestWatchAsks: a watcher that may not read is refused; one that may no longer is canceled before its next event.
func TestWatchAsks(t *testing.T) {
	f := serve(t, Options{})
	f.rules.Store(&rules{mayWatch: func(c *auth.Credentials, key, end []byte) error {
		if c == nil {
			return auth.ErrUserEmpty
		}
		if string(key) != "a" || string(end) != "b" {
			return auth.ErrDenied
		}
		return nil
	}})
	create := func(ctx context.Context, key, end string) (pb.Watch_WatchClient, *pb.WatchResponse) {
		t.Helper()
		w, err := pb.NewWatchClient(f.conn).Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		req := &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end)}
		if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}}); err != nil {
			t.Fatal(err)
		}
		r, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return w, r
	}
	tom := metadata.AppendToOutgoingContext(testContext(t), rpctypes.TokenFieldNameGRPC, "tom")
	for want, x := range map[string]struct {
		ctx      context.Context
		key, end string
	}{
		rpctypes.ErrGRPCUserEmpty.Error():        {testContext(t), "a", "b"},
		rpctypes.ErrGRPCPermissionDenied.Error(): {tom, "a", "\x00"},
	} {
		if _, r := create(x.ctx, x.key, x.end); !r.Created || !r.Canceled || r.WatchId != -1 || r.CancelReason != want {
			t.Errorf("%q..%q: %v", x.key, x.end, r)
		}
	}
	w, r := create(tom, "a", "b")
	if !r.Created || r.Canceled {
		t.Fatal(r)
	}
	f.put(t, "a1", "v")
	if r, err := w.Recv(); err != nil || len(r.Events) != 1 {
		t.Fatal(r, err)
	}
	f.rules.Store(&rules{still: func() error { return auth.ErrDenied }})
	f.put(t, "a2", "v")
	if r, err := w.Recv(); err != nil || len(r.Events) != 0 || !r.Canceled || !strings.Contains(r.CancelReason, "permission denied") {
		t.Error("a watcher that may not read any more:", r, err)
	}
}
