package grpcproxy

import (
	"context"
	"math"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"keelson/internal/edge/rpc"
	"keelson/internal/kit/clock"
	"keelson/internal/server"
	"keelson/test/solo"
)

// patience bounds what a test waits for.
const patience = time.Minute

// fixture is a proxy before a member of a cluster of one.
type fixture struct {
	t      testing.TB
	member *server.Member
	rpc    *rpc.Server
	direct *clientv3.Client // to the member, as the proxy's
	// watchers and keepAlives count what the proxy has opened at the member: watchers, and streams of keep-alives.
	watchers, keepAlives atomic.Int64

	watch *Watch
	lease *Lease
	addr  string // the proxy's
	proxy *clientv3.Client
}

// counting counts the watchers that are open.
type counting struct {
	clientv3.Watcher
	open *atomic.Int64
}

func (c counting) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	c.open.Add(1)
	context.AfterFunc(ctx, func() { c.open.Add(-1) })
	return c.Watcher.Watch(ctx, key, opts...)
}

func serve(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, member: solo.Start(t)}
	f.rpc = rpc.NewServer(f.member, rpc.Options{})
	l := listen(t)
	served := make(chan error, 1)
	go func() { served <- f.rpc.Serve(l) }()
	t.Cleanup(func() {
		f.rpc.Stop()
		<-served
		f.rpc.Close()
	})
	f.direct = dial(t, l.Addr().String(), append(DialOptions(math.MaxInt32, math.MaxInt32), grpc.WithChainStreamInterceptor(f.countStream))...)
	f.serveProxy()
	return f
}

func (f *fixture) countStream(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if method == pb.Lease_LeaseKeepAlive_FullMethodName {
		f.keepAlives.Add(1)
	}
	return next(ctx, d, cc, method, opts...)
}

func (f *fixture) serveProxy() {
	t := f.t
	watcher := clientv3.NewWatcher(f.direct)
	f.watch = NewWatch(context.Background(), f.direct, counting{watcher, &f.watchers}, WatchOptions{})
	f.lease = NewLease(context.Background(), f.direct, LeaseOptions{})
	s := grpc.NewServer(grpc.ForceServerCodecV2(codec{}))
	(&forwarder{to: f.direct.ActiveConnection(), cache: newCache(clock.System)}).register(s)
	pb.RegisterWatchServer(s, f.watch)
	pb.RegisterLeaseServer(s, f.lease)
	l := listen(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, c := range []interface{ Close() error }{f.watch, f.lease, watcher} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	f.addr = l.Addr().String()
	f.proxy = dial(t, f.addr)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, addr string, opts ...grpc.DialOption) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialTimeout: patience, Logger: zap.NewNop(), DialOptions: opts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// put writes past the proxy.
func (f *fixture) put(key, value string) int64 {
	f.t.Helper()
	r, err := f.direct.Put(f.t.Context(), key, value)
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Header.Revision
}
