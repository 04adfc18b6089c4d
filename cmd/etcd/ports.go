package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/edge/health"
	"keelson/internal/edge/rpc"
	"keelson/internal/kit/listen"
	"keelson/internal/server"
)

const (
	// headerTime is how long the headers of an HTTP request may take to come.
	headerTime = 30 * time.Second
	// httpDrain is what HTTP requests in flight get at a stop.
	httpDrain = time.Second
)

// sockets are all that the configuration names, open before anything is created, so that a port in use leaves no trace.
type sockets struct {
	peer, client, clientHTTP, metrics []net.Listener
}

func openSockets(cfg *config.Config) (*sockets, error) {
	s := &sockets{}
	o := listen.Options{ReusePort: cfg.Listen.ReusePort, ReuseAddress: cfg.Listen.ReuseAddress}
	var err error
	for _, part := range []struct {
		to   *[]net.Listener
		urls types.URLs
	}{
		{&s.peer, cfg.Listen.Peer}, {&s.client, cfg.Listen.Client}, {&s.clientHTTP, cfg.Listen.ClientHTTP}, {&s.metrics, cfg.Listen.Metrics},
	} {
		if *part.to, err = listen.OpenAll(context.Background(), part.urls, o); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// close closes what no server has closed yet; closing twice does no harm.
func (s *sockets) close() {
	for _, part := range [][]net.Listener{s.peer, s.client, s.clientHTTP, s.metrics} {
		for _, l := range part {
			_ = l.Close()
		}
	}
}

// front is all the servers of one member. Each serves in a goroutine of its own; stopClients and stopPeers end and join them.
type front struct {
	log            *zap.Logger
	rpc            *rpc.Server
	health         *health.Edge
	peerWrite      time.Duration
	clients, peers group
	// failed gets the first error of a listener that ended by itself.
	failed chan error
}

// group is the servers that end together.
type group struct {
	running sync.WaitGroup
	http    []*http.Server
	splits  []*listen.Split
}

func newFront(cfg *config.Config, log *zap.Logger, m *server.Member, r *prometheus.Registry) *front {
	f := &front{
		log: log, rpc: rpc.NewServer(m, rpcOptions(cfg, log, r)), health: health.New(m, healthOptions(cfg, log, r)),
		peerWrite: cfg.Listen.PeerWrite, failed: make(chan error, 1),
	}
	f.rpc.SetServing(false)
	r.MustRegister(f.health.Collectors()...)
	return f
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

// newHTTP makes a server of HTTP/1.1 and of HTTP/2 in plain text.
func (f *front) newHTTP(g *group, h http.Handler) *http.Server {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, Protocols: new(http.Protocols),
		ErrorLog: zap.NewStdLog(f.log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	g.http = append(g.http, s)
	return s
}

func (f *front) servePeers(ls []net.Listener, h http.Handler) {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("/version", f.health.Version())
	s := f.newHTTP(&f.peers, mux)
	for _, l := range ls {
		f.log.Info("serving peer traffic", zap.Stringer("address", l.Addr()))
		f.keep(&f.peers, l.Addr(), func() error { return s.Serve(patient{l, f.peerWrite}) })
	}
}

func (f *front) serveMetrics(ls []net.Listener) {
	s := f.newHTTP(&f.clients, f.health.Metrics())
	for _, l := range ls {
		f.log.Info("serving metrics", zap.Stringer("address", l.Addr()))
		f.keep(&f.clients, l.Addr(), func() error { return s.Serve(l) })
	}
}

// serveClients serves gRPC and HTTP on the client ports, or gRPC alone where HTTP has ports of its own.
func (f *front) serveClients(ls, apart []net.Listener) {
	s := f.newHTTP(&f.clients, f.health.Client())
	traffic := "grpc+http"
	if len(apart) > 0 {
		traffic = "grpc"
	}
	for _, l := range ls {
		f.log.Info("serving client traffic insecurely; this is strongly discouraged!", zap.String("traffic", traffic), zap.Stringer("address", l.Addr()))
		if len(apart) > 0 {
			f.keep(&f.clients, l.Addr(), func() error { return f.rpc.Serve(l) })
			continue
		}
		split := listen.NewSplit(l, f.log)
		f.clients.splits = append(f.clients.splits, split)
		f.keep(&f.clients, l.Addr(), split.Serve)
		f.keep(&f.clients, l.Addr(), func() error { return f.rpc.Serve(split.GRPC()) })
		f.keep(&f.clients, l.Addr(), func() error { return s.Serve(split.HTTP()) })
	}
	for _, l := range apart {
		f.log.Info("serving client traffic insecurely; this is strongly discouraged!", zap.String("traffic", "http"), zap.Stringer("address", l.Addr()))
		f.keep(&f.clients, l.Addr(), func() error { return s.Serve(l) })
	}
	f.rpc.SetServing(true)
}

// stopClients lets requests in flight end, cuts what lasts longer, and joins.
func (f *front) stopClients() {
	f.rpc.SetServing(false)
	drained := make(chan struct{})
	go func() {
		f.rpc.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainTime):
		f.rpc.Stop()
		<-drained
	}
	f.rpc.Close()
	f.clients.stop()
}

func (f *front) stopPeers() { f.peers.stop() }

func (g *group) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), httpDrain)
	defer cancel()
	for _, s := range g.splits {
		_ = s.Close() // its socket is gone either way
	}
	for _, s := range g.http {
		if s.Shutdown(ctx) != nil {
			_ = s.Close() // what lasts longer than the time-out is cut
		}
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
