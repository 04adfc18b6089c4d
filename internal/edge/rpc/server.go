// Package rpc is the gRPC edge: it decodes requests, calls the member, and encodes what it answers. It serves KV,
// Watch, Lease, Cluster, Maintenance, Auth, Lock, Election and the standard health service on one grpc.Server.
//
// Every call passes one gate (gate.go), which counts it, refuses it where this member can't serve it or its caller may not
// make it (rules.go), and logs it where it was slow. Requests are checked by the member; one table (errors.go) turns its errors into the codes and
// texts that clients match on. The codec encodes the hot messages by hand (package wire): a value goes from memory
// into the buffer that is sent with one copy.
//
// Lock and Election call the member in this process; a server never dials itself.
package rpc

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
)

const (
	// requestOverheadBytes is what a request may have beside --max-request-bytes: keys, field tags, the other
	// operations of a transaction. It is etcd's.
	requestOverheadBytes = 512 << 10
	// streamWorkers is how many goroutines are kept to run handlers, with their stacks grown: a write waits for the disk in
	// its handler, so there are as many as writes in flight on a busy server, and far more than cores. Idle, they hold
	// 2 MiB of stacks. All busy is no trouble: grpc then starts one more for the call.
	streamWorkers = 256
	// streamWindowBytes and connWindowBytes are how much a client may send ahead. A megabyte holds any request of
	// the default size limit but the largest in one round trip; fixed windows save grpc its bandwidth probes.
	streamWindowBytes = 1 << 20
	connWindowBytes   = 4 << 20
	// headerBytesMax bounds the headers of one call, as HTTP/2 counts them; grpc would take 16 MiB from anybody. A token is
	// the largest that clients send: a few KiB.
	headerBytesMax = 64 << 10
	// helloTime is how long a new connection may take until it speaks HTTP/2; grpc would wait for two minutes.
	helloTime = 30 * time.Second
)

// Options configures a server. The zero value of a field means what its comment says.
type Options struct {
	MaxRequestBytes      uint          // of one request's content; 0: 1.5 MiB, etcd's default
	MaxConcurrentStreams uint32        // of one connection; 0: no limit
	KeepaliveMinTime     time.Duration // shortest time between a client's pings; 0: not enforced
	KeepaliveInterval    time.Duration // idle time before the server pings; 0: grpc's own two hours
	KeepaliveTimeout     time.Duration // how long a ping may stay unanswered; 0: grpc's own 20 s
	WarnUnary            time.Duration // requests slower than this are logged; 0: 300 ms
	ElectionTimeout      time.Duration // of the member's raft; 0: 1 s
	ClientCertAuth       bool          // clients have to bring a certificate, whose common name is a user's
	ExtensiveMetrics     bool          // with a histogram of durations by method
	Registerer           prometheus.Registerer
	Logger               *zap.Logger
	Clock                clock.Clock
	GRPC                 []grpc.ServerOption // such as credentials
}

// Server is a grpc server with a health state. Its owner calls Close after Stop or GracefulStop.
type Server struct {
	*grpc.Server
	health *health.Server
	local  *local
	lg     *zap.Logger

	// The leader monitor is the one goroutine that Server owns: done ends it, idle joins it.
	stop func()
	idle sync.WaitGroup
}

// NewServer makes a server for m. It serves once Serve is called; the health service says SERVING until SetServing
// says otherwise.
func NewServer(m Member, o Options) *Server {
	o = o.withDefaults()
	ms := newMetrics(o.Registerer, o.ExtensiveMetrics)
	g := &gate{
		state: m, metrics: ms, clock: o.Clock,
		slow: slowLog{lg: o.Logger, warn: o.WarnUnary}, certified: o.ClientCertAuth,
		bound: make(map[*countedStream]context.CancelCauseFunc),
	}
	s := &Server{Server: grpc.NewServer(grpcOptions(o, g)...), health: health.NewServer(), lg: o.Logger}
	s.local = newLocal(g, requestMax(o))
	register(s, m, g, o)
	done := make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(done) })
	s.idle.Go(func() { g.monitor(o.ElectionTimeout, done, o.Logger) })
	return s
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.WarnUnary, 300*time.Millisecond)
	set(&o.ElectionTimeout, time.Second)
	set(&o.KeepaliveInterval, 2*time.Hour)
	set(&o.KeepaliveTimeout, 20*time.Second)
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = 3 << 19
	}
	if o.MaxConcurrentStreams == 0 {
		o.MaxConcurrentStreams = math.MaxUint32
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	return o
}

// requestMax is how many bytes of a request are read.
func requestMax(o Options) int {
	return int(min(o.MaxRequestBytes, math.MaxInt32-requestOverheadBytes)) + requestOverheadBytes
}

func grpcOptions(o Options, g *gate) []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(&codec{pool: new(buffers), sent: g.metrics.sentBytes, received: g.metrics.receivedBytes}),
		grpc.UnaryInterceptor(g.intercept),
		grpc.StreamInterceptor(g.interceptStream),
		grpc.MaxRecvMsgSize(requestMax(o)),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(o.MaxConcurrentStreams),
		grpc.MaxHeaderListSize(headerBytesMax),
		grpc.ConnectionTimeout(helloTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: o.KeepaliveInterval, Timeout: o.KeepaliveTimeout}),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.StaticStreamWindowSize(streamWindowBytes),
		grpc.StaticConnWindowSize(connWindowBytes),
		grpc.WaitForHandlers(true),
	}
	if o.KeepaliveMinTime > 0 {
		opts = append(opts, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.KeepaliveMinTime}))
	}
	return append(opts, o.GRPC...)
}

// register adds every service, and resolves the counters of its methods.
func register(s *Server, m Member, g *gate, o Options) {
	q := queue{kv: m, lease: m, state: m}
	services := []struct {
		desc      *grpc.ServiceDesc
		impl      any
		wireError func(error) error
	}{
		{watchDesc(), &watchService{state: m, metrics: g.metrics, clock: o.Clock, lg: o.Logger}, toStatus},
		{&pb.Lease_ServiceDesc, &leaseService{lease: m, state: m, metrics: g.metrics, lg: o.Logger}, toStatus},
		{&pb.Cluster_ServiceDesc, &clusterService{cluster: m}, toStatus},
		{&pb.Auth_ServiceDesc, &authService{auth: m}, toStatus},
		{&pb.Maintenance_ServiceDesc, &maintenanceService{member: m, clock: o.Clock, lg: o.Logger}, toStatus},
		{&lockpb.Lock_ServiceDesc, &lockService{queue: q}, codeless},
		{&electionpb.Election_ServiceDesc, &electionService{queue: q}, codeless},
		{&healthpb.Health_ServiceDesc, s.health, toStatus},
	}
	kv := newKV(m, g)
	s.RegisterService(kvDesc(), kv)
	kv.addTo(s.local)
	s.local.add(kvDesc(), kv)
	for _, x := range services {
		g.metrics.add(x.desc, x.wireError)
		s.RegisterService(x.desc, x.impl)
		s.local.add(x.desc, x.impl)
	}
}

// SetServing changes what the health service answers, for the server as a whole.
func (s *Server) SetServing(serving bool) {
	to := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		to = healthpb.HealthCheckResponse_SERVING
	}
	s.lg.Info("grpc service status changed", zap.String("service", ""), zap.String("status", to.String()))
	s.health.SetServingStatus("", to)
}

// Close ends what the server runs beside its calls, and the calls in this process. It waits until that has ended.
func (s *Server) Close() {
	s.stop()
	s.local.close()
	s.idle.Wait()
}
