package main

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/edge/access"
	"keelson/internal/edge/health"
	"keelson/internal/edge/jsonapi"
	"keelson/internal/edge/rpc"
	"keelson/internal/edge/v2auth"
	"keelson/internal/edge/v2http"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/listen"
	"keelson/internal/kit/logging"
	"keelson/internal/kit/tlsconf"
	"keelson/internal/server"
)

const (
	// headerTime is how long the headers of an HTTP request may take to come, idleTime how long a connection may wait for the
	// next request.
	headerTime = 30 * time.Second
	idleTime   = 3 * time.Minute
	// headerBytesMax bounds those headers. A token is the largest that anybody sends: a few KiB.
	headerBytesMax = 64 << 10
	// frameBytesMax bounds a frame of HTTP/2: the least that a server must take.
	frameBytesMax = 16 << 10
	// httpDrain is what HTTP requests in flight get at a stop.
	httpDrain = time.Second
)

// sockets are all that the configuration names, open before anything is created, so that a port in use leaves no trace.
type sockets struct {
	peer, client, clientHTTP, metrics []socket
}

// socket is one of them. It takes TLS, plain text, or both where two URLs name it.
type socket struct {
	net.Listener
	secure, plain bool
}

func openSockets(cfg *config.Config) (*sockets, error) {
	s := &sockets{}
	o := listen.Options{ReusePort: cfg.Listen.ReusePort, ReuseAddress: cfg.Listen.ReuseAddress}
	var err error
	for _, part := range []struct {
		to   *[]socket
		urls types.URLs
	}{
		{&s.peer, cfg.Listen.Peer}, {&s.client, cfg.Listen.Client}, {&s.clientHTTP, cfg.Listen.ClientHTTP}, {&s.metrics, cfg.Listen.Metrics},
	} {
		if *part.to, err = openPart(part.urls, o); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// openPart opens one list of URLs, two that differ in nothing but TLS as one socket.
func openPart(urls types.URLs, o listen.Options) ([]socket, error) {
	var (
		distinct types.URLs
		kinds    []socket
	)
	for i, u := range urls {
		same := func(d url.URL) bool { return d.Host == u.Host && d.Path == u.Path }
		at := slices.IndexFunc(distinct, same)
		if at < 0 {
			at = len(distinct)
			distinct, kinds = append(distinct, u), append(kinds, socket{})
		}
		secure := config.WithTLS(urls[i : i+1])
		kinds[at].secure, kinds[at].plain = kinds[at].secure || secure, kinds[at].plain || !secure
	}
	open, err := listen.OpenAll(context.Background(), distinct, o)
	for i, l := range open {
		kinds[i].Listener = l
	}
	if err != nil {
		return nil, err
	}
	return kinds, nil
}

// close closes what no server has closed yet; closing twice does no harm.
func (s *sockets) close() {
	for _, part := range [][]socket{s.peer, s.client, s.clientHTTP, s.metrics} {
		for _, l := range part {
			_ = l.Close()
		}
	}
}

// front is all the servers of one member. Each serves in a goroutine of its own; stopClients and stopPeers end and join them.
type front struct {
	log            *zap.Logger
	tls            *materials
	rpc            *rpc.Server
	health         *health.Edge
	json           *jsonapi.Edge // nil where it is switched off
	web            http.Handler  // what the client ports serve but gRPC
	v2             *v2http.Edge  // nil without --enable-v2
	v2users        *v2auth.Edge  // likewise
	peerWrite      time.Duration
	streams        int // that a client may hold open on one connection of HTTP/2
	clients, peers group
	// failed gets the first error of a listener that ended by itself.
	failed chan error
	// ctx is above those of clients' HTTP requests; end ends them.
	ctx context.Context
	end context.CancelCauseFunc
}

// group is the servers that end together.
type group struct {
	running sync.WaitGroup
	http    []*http.Server
	splits  []*listen.Split
}

func newFront(cfg *config.Config, log *zap.Logger, m *server.Member, r *prometheus.Registry, t *materials, traffic *v2http.Traffic) (*front, error) {
	o := rpcOptions(cfg, log, r)
	o.GRPC = t.securely(o.GRPC)
	f := &front{
		log: log, tls: t, rpc: rpc.NewServer(m, o), health: health.New(m, healthOptions(cfg, log, r)),
		peerWrite: cfg.Listen.PeerWrite, streams: int(min(cfg.Limits.Streams, math.MaxInt32)), failed: make(chan error, 1),
	}
	f.rpc.SetServing(false)
	r.MustRegister(f.health.Collectors()...)
	f.ctx, f.end = context.WithCancelCause(context.Background())
	routes, err := f.routes(cfg, m, traffic)
	if err != nil {
		return nil, err
	}
	f.web = access.Guard(routes, access.Options{Origins: cfg.Security.Origins, Hosts: cfg.Security.Hosts, Logger: log, Clock: clock.System})
	return f, nil
}

// routes gives each edge its paths on the client ports.
func (f *front) routes(cfg *config.Config, m *server.Member, traffic *v2http.Traffic) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("/", f.health.Client())
	if cfg.V2.Enable {
		f.v2users = v2auth.New(m, v2AuthOptions(cfg, f.log, m))
		o := v2Options(cfg, f.log, traffic)
		o.Guard, o.Auth = f.v2users, f.v2users.Handler()
		f.v2 = v2http.New(m, o)
		v2 := f.v2.Handler()
		mux.Handle("/v2/", v2)
		mux.Handle("/v2", v2) // a mux would send it on to /v2/
	}
	if !cfg.Listen.Gateway {
		return mux, nil
	}
	var err error
	f.json, err = jsonapi.New(f.rpc.InProcess(), m, jsonapi.Options{
		MaxRequestBytes: cfg.Limits.RequestBytes, ClientCertAuth: cfg.Security.Client.CertAuth, Logger: f.log,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle(jsonapi.Prefix, f.json)
	mux.Handle(jsonapi.BetaPrefix, f.json)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if jsonapi.IsKey(r) { // a mux would clean its path
			f.json.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// keep runs one server. An end that nobody asked for is told to run, once.
func (f *front) keep(g *group, address net.Addr, serve func() error) {
	g.running.Go(func() {
		err := serve()
		if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case f.failed <- portError(address, err):
		default:
		}
	})
}

// newHTTP makes a server of HTTP/1.1 and HTTP/2, both in plain text and behind a handshake, whose clients have to keep going.
func (f *front) newHTTP(g *group, h http.Handler) *http.Server {
	s := &http.Server{
		Handler: listen.Bound(h), ReadHeaderTimeout: headerTime, ConnState: listen.Idle(idleTime), MaxHeaderBytes: headerBytesMax, Protocols: new(http.Protocols),
		ErrorLog: logging.HTTPErrors(f.log),
	}
	// net/http would take frames of a megabyte, and keep as much for each connection, whoever opened it.
	s.HTTP2 = &http.HTTP2Config{MaxReadFrameSize: frameBytesMax}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	g.http = append(g.http, s)
	return s
}

// shaken does the TLS handshakes of a secure socket. checkSAN and protocols are the port's.
func (f *front) shaken(g *group, l socket, m *tlsconf.Material, endpoint string, checkSAN bool, protocols ...string) net.Listener {
	if !l.secure {
		return l.Listener
	}
	s := listen.NewSecure(l.Listener, listen.SecureOptions{
		Config: m.Server(checkSAN, protocols...), Plain: l.plain, Refused: rejected(f.log, endpoint), Logger: f.log,
	})
	f.keep(g, l.Addr(), s.Serve)
	return s
}

// The protocols that ports agree on. A stock member asks for none, and speaks HTTP/1.1 to other members alone.
const (
	http1 = "http/1.1"
	http2 = "h2"
)

func (f *front) servePeers(ls []socket, h http.Handler, skipSAN bool) {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("/version", f.health.Version())
	s := f.newHTTP(&f.peers, mux)
	s.Protocols.SetUnencryptedHTTP2(false) // members speak HTTP/1.1
	for _, l := range ls {
		f.log.Info("serving peer traffic", zap.Stringer("address", l.Addr()))
		l.Listener = patient{l.Listener, f.peerWrite}
		shaken := f.shaken(&f.peers, l, f.tls.peer, "peer", !skipSAN, http1)
		f.keep(&f.peers, l.Addr(), func() error { return s.Serve(shaken) })
	}
}

// serveMetrics serves metrics and health checks. A certificate must fit the address that it is shown from, as at etcd's.
func (f *front) serveMetrics(ls []socket) {
	s := f.newHTTP(&f.clients, f.health.Metrics())
	for _, l := range ls {
		f.log.Info("serving metrics", zap.Stringer("address", l.Addr()))
		shaken := f.shaken(&f.clients, l, f.tls.client, "client", true, http2, http1)
		f.keep(&f.clients, l.Addr(), func() error { return s.Serve(shaken) })
	}
}

// serveClients serves gRPC and HTTP on the client ports, or gRPC alone where HTTP has ports of its own.
func (f *front) serveClients(ls, apart []socket) {
	s := f.newHTTP(&f.clients, listen.WithState(f.web))
	s.BaseContext = func(net.Listener) context.Context { return f.ctx }
	s.ConnContext = listen.KeepState
	s.HTTP2.MaxConcurrentStreams = f.streams
	traffic, protocols := "grpc+http", []string{http2, http1}
	if len(apart) > 0 {
		traffic, protocols = "grpc", []string{http2}
	}
	for _, l := range ls {
		f.tellClients(l, traffic)
		shaken := f.shaken(&f.clients, l, f.tls.client, "client", false, protocols...)
		if len(apart) > 0 {
			f.keep(&f.clients, l.Addr(), func() error { return f.rpc.Serve(shaken) })
			continue
		}
		split := listen.NewSplit(shaken, f.log)
		f.clients.splits = append(f.clients.splits, split)
		f.keep(&f.clients, l.Addr(), split.Serve)
		f.keep(&f.clients, l.Addr(), func() error { return f.rpc.Serve(split.GRPC()) })
		f.keep(&f.clients, l.Addr(), func() error { return s.Serve(split.HTTP()) })
	}
	for _, l := range apart {
		f.tellClients(l, "http")
		shaken := f.shaken(&f.clients, l, f.tls.client, "client", false, http2, http1)
		f.keep(&f.clients, l.Addr(), func() error { return s.Serve(shaken) })
	}
	f.rpc.SetServing(true)
}

func (f *front) tellClients(l socket, traffic string) {
	fields := []zap.Field{zap.String("traffic", traffic), zap.Stringer("address", l.Addr())}
	if l.secure {
		f.log.Info("serving client traffic securely", fields...)
	}
	if l.plain {
		f.log.Info("serving client traffic insecurely; this is strongly discouraged!", fields...)
	}
}

// stopClients lets requests in flight end, cuts what lasts longer, and joins.
func (f *front) stopClients() {
	f.rpc.SetServing(false)
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if f.v2 != nil {
		f.v2.Close()
	}
	drained := make(chan struct{})
	go func() {
		f.rpc.GracefulStop()
		close(drained)
	}()
	f.clients.drain(ctx)
	select {
	case <-drained:
	case <-ctx.Done():
		f.rpc.Stop()
		<-drained
	}
	f.end(server.ErrStopped)
	f.rpc.Close()
	f.clients.stop()
	if f.json != nil {
		f.json.Wait()
	}
}

func (f *front) stopPeers() { f.peers.stop() }

// drain closes the sockets and lets requests in flight end, until ctx does.
func (g *group) drain(ctx context.Context) {
	for _, s := range g.splits {
		_ = s.Close() // its socket is gone either way
	}
	for _, s := range g.http {
		_ = s.Shutdown(ctx) // what lasts longer is cut by stop
	}
}

func (g *group) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), httpDrain)
	defer cancel()
	g.drain(ctx)
	for _, s := range g.http {
		_ = s.Close()
	}
	g.running.Wait()
}

// patient bounds every write to a peer: one that hangs gives the connection up.
type patient struct {
	net.Listener
	write time.Duration
}

func (p patient) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &patientConn{c, p.write}, nil
}

type patientConn struct {
	net.Conn
	write time.Duration
}

func (c *patientConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
