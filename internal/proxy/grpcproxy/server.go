package grpcproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/electionpb"
	sockets "keelson/internal/kit/listen"
	"keelson/internal/kit/lockpb"
	"keelson/internal/kit/logging"
)

const (
	// headerTime is how long the headers of an HTTP request may take to come, idleTime how long a connection may wait for the
	// next one, headerBytesMax bounds the headers.
	headerTime     = 30 * time.Second
	idleTime       = 3 * time.Minute
	headerBytesMax = 64 << 10
	// streamWorkers serve calls on stacks that have grown already: growing one anew was a seventh of the cost of a put. While
	// all wait for members, further calls get goroutines of their own.
	streamWorkers = 256
	// frameBytesMax bounds a frame of HTTP/2 that is not gRPC's: the least that a server must take.
	frameBytesMax = 16 << 10
)

// Options steer a Server.
type Options struct {
	// Namespace is put before all keys of clients, which do not see it.
	Namespace string
	// Leasing is the prefix of leases on ranges that this proxy may answer by itself; empty: it does not.
	Leasing string
	// Ordering has serializable ranges never go back in revisions, whichever member answers.
	Ordering bool
	// Advertise is the address that the member list shows, in the registry of ResolverPrefix where one is given, for
	// ResolverTTL seconds after this proxy has died.
	Advertise, ResolverPrefix string
	ResolverTTL               int
	// Profiles serves /debug/pprof/.
	Profiles bool
	// GRPC is added to the gRPC server's options.
	GRPC []grpc.ServerOption
	// HTTP asks members for their metrics.
	HTTP   *http.Client
	Logger *zap.Logger
}

// Server is a proxy. Serve and ServeHTTP run it; Close ends and joins all.
//
// Goroutines: one for each listener, those of gRPC and net/http, those of Watch and Lease, and one that keeps the
// registration.
type Server struct {
	o     Options
	u     *clientv3.Client
	kv    clientv3.KV // what calls of KV go through to the members
	watch *Watch
	lease *Lease
	grpc  *grpc.Server
	own   *prometheus.Registry // what begins with ownMetrics
	all   prometheus.Gatherers

	end     context.CancelFunc // of what serves calls
	leave   context.CancelFunc // of the registration
	closers []func()
	running sync.WaitGroup

	mu     sync.Mutex
	web    []*http.Server
	closed bool
}

// New makes a proxy in front of the members that u knows, which must have been made with DialOptions. u's key space becomes
// that of the namespace. The caller closes u after the Server.
func New(ctx context.Context, u *clientv3.Client, o Options) (*Server, error) {
	ctx, end := context.WithCancel(ctx)
	listed, leave := context.WithCancel(ctx)
	s := &Server{o: o, u: u, own: prometheus.NewRegistry(), end: end, leave: leave}
	l, err := s.layers()
	var cluster *clusterService
	if err == nil {
		cluster, err = newCluster(u, o)
	}
	if err != nil {
		end()
		return nil, err
	}
	s.kv = u.KV
	if l.all != nil {
		s.kv = l.all
	}
	kept := newCache(clock.System)
	s.watch = NewWatch(ctx, u, u.Watcher, WatchOptions{KV: l.members})
	s.lease = NewLease(ctx, u, LeaseOptions{Namespace: o.Namespace})
	s.collect(kept)
	s.grpc = s.newGRPC(cluster, l, kept)
	if o.ResolverPrefix != "" {
		s.running.Go(func() { cluster.register(listed, u, o) })
	}
	return s, nil
}

// layers are what the options put between clients and members.
type layers struct {
	// all is what calls go through; nil where that is nothing: requests are passed on as they came.
	all clientv3.KV
	// unleased is all without leases on ranges; nil where all is without them too.
	unleased clientv3.KV
	// members is in the namespace, without what remembers or refuses answers.
	members clientv3.KV
}

func (s *Server) layers() (l layers, err error) {
	if s.o.Namespace != "" {
		s.u.KV = namespace.NewKV(s.u.KV, s.o.Namespace)
		s.u.Watcher = namespace.NewWatcher(s.u.Watcher, s.o.Namespace)
		s.u.Lease = namespace.NewLease(s.u.Lease, s.o.Namespace)
		l.all = s.u.KV
	}
	l.members = s.u.KV
	if s.o.Ordering {
		s.u.KV = ordering.NewKV(s.u.KV, ordering.NewOrderViolationSwitchEndpointClosure(s.u))
		l.all = s.u.KV
	}
	if s.o.Leasing == "" {
		return l, nil
	}
	kv, stop, err := leasing.NewKV(s.u, s.o.Leasing)
	if err != nil {
		return l, fmt.Errorf("grpcproxy: leasing prefix %q: %w", s.o.Leasing, err)
	}
	s.closers = append(s.closers, stop)
	l.all, l.unleased = kv, s.u.KV
	return l, nil
}

func (s *Server) collect(kept *cache) {
	s.own.MustRegister(slices.Concat(kept.collectors(), s.watch.Collectors(), s.lease.Collectors())...)
	process := prometheus.NewRegistry()
	process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.all = prometheus.Gatherers{s.own, process}
}

// newGRPC makes the gRPC server with all services. Calls and streams that a client opens are bounded by the options.
func (s *Server) newGRPC(cluster pb.ClusterServer, l layers, kept *cache) *grpc.Server {
	g := grpc.NewServer(append([]grpc.ServerOption{grpc.NumStreamWorkers(streamWorkers), grpc.ForceServerCodecV2(codec{})}, s.o.GRPC...)...)
	conn := s.u.ActiveConnection()
	if l.all == nil {
		(&forwarder{to: conn, cache: kept}).register(g)
	} else {
		pb.RegisterKVServer(g, &layered{kv: l.all, plain: l.unleased, cache: kept})
	}
	pb.RegisterWatchServer(g, s.watch)
	pb.RegisterLeaseServer(g, s.lease)
	pb.RegisterClusterServer(g, cluster)
	pb.RegisterMaintenanceServer(g, &maintenanceService{to: clientv3.RetryMaintenanceClient(s.u, conn)})
	pb.RegisterAuthServer(g, &authService{to: clientv3.RetryAuthClient(s.u)})
	lockpb.RegisterLockServer(g, &lockService{to: lockpb.NewLockClient(conn), space: space(s.o.Namespace)})
	electionpb.RegisterElectionServer(g, &electionService{to: electionpb.NewElectionClient(conn), space: space(s.o.Namespace)})
	healthpb.RegisterHealthServer(g, health.NewServer())
	return g
}

func (s *Server) newHTTP(h http.Handler) *http.Server {
	w := &http.Server{
		Handler: sockets.Bound(h), ReadHeaderTimeout: headerTime, ConnState: sockets.Idle(idleTime), MaxHeaderBytes: headerBytesMax,
		Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxReadFrameSize: frameBytesMax},
		ErrorLog: logging.HTTPErrors(s.o.Logger),
	}
	w.Protocols.SetHTTP1(true)
	w.Protocols.SetHTTP2(true)
	w.Protocols.SetUnencryptedHTTP2(true)
	return w
}

// Serve serves gRPC and HTTP on one listener, in plain text or a listen.Secure. It answers nil after Close, else why it ended.
func (s *Server) Serve(l net.Listener) error {
	split := sockets.NewSplit(l, s.o.Logger)
	results := make(chan error, 3)
	for _, serve := range []func() error{
		split.Serve,
		func() error { return s.grpc.Serve(split.GRPC()) },
		func() error { return s.serveWeb(split.HTTP(), true) },
	} {
		s.running.Go(func() {
			results <- serve()
			_ = split.Close() // one that ended ends the others
		})
	}
	var errs []error
	for range cap(results) {
		errs = append(errs, unlessClosed(<-results))
	}
	return errors.Join(errs...)
}

// ServeHTTP serves health and metrics alone. It answers nil after Close, else why it ended.
func (s *Server) ServeHTTP(l net.Listener) error { return unlessClosed(s.serveWeb(l, false)) }

func (s *Server) serveWeb(l net.Listener, profiles bool) error {
	w := s.newHTTP(s.Handler(profiles))
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return l.Close()
	}
	s.web = append(s.web, w)
	s.mu.Unlock()
	return w.Serve(l)
}

func unlessClosed(err error) error {
	for _, end := range []error{net.ErrClosed, http.ErrServerClosed, grpc.ErrServerStopped} {
		if errors.Is(err, end) {
			return nil
		}
	}
	return err
}

// Close ends all connections and joins what serves them. Calls in flight get until ctx ends.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.leave()
	web := s.web
	s.mu.Unlock()
	for _, w := range web {
		_ = w.Shutdown(ctx) // what lasts longer is cut
		_ = w.Close()
	}
	graceful := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
		s.grpc.Stop()
		<-graceful
	}
	// The parts go after their last call.
	s.end()
	_ = errors.Join(s.watch.Close(), s.lease.Close()) // both have nothing to tell
	s.running.Wait()
	for _, c := range s.closers {
		c()
	}
}
