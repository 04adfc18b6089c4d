// Package tcpgateway passes TCP connections on to the members of a cluster, whatever is spoken in them: one fixed address on
// each machine for clients that would else have to know every member. It ends no TLS and reads nothing.
//
// A connection goes to the next live endpoint (pool.go). Where that can't be reached another is tried before the client
// notices, and the one that failed is left alone until a probe, each retry delay, reaches it again.
package tcpgateway

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
)

// Options say how a gateway works. All but Resolve are required.
type Options struct {
	// Endpoints are where connections go at first.
	Endpoints []Endpoint
	// Resolve, if not nil, is asked each RetryDelay for the endpoints of now.
	Resolve func(context.Context) ([]Endpoint, error)
	// RetryDelay is how long an endpoint that failed is left alone.
	RetryDelay time.Duration
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)
	Clock      clock.Clock
	Logger     *zap.Logger
}

const (
	// dialTime bounds one attempt, so that an endpoint whose machine is off the network does not hold a client up for the
	// minutes that TCP would try.
	dialTime = 5 * time.Second
	// acceptPause is the rest after an accept that failed for want of file descriptors.
	acceptPause = 100 * time.Millisecond
)

// Gateway is a running gateway. Its goroutines are Serve's own, one that probes, and two for each connection; Close ends and
// joins them.
type Gateway struct {
	options Options
	from    net.Listener
	pool    pool
	ctx     context.Context
	end     context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // guards the rest
	conns map[net.Conn]struct{}
	over  bool
}

// New makes a gateway for the connections of l. It probes at once and passes on once Serve is called.
func New(l net.Listener, o Options) *Gateway {
	g := &Gateway{options: o, from: l, pool: pool{clock: o.Clock, delay: o.RetryDelay}, conns: make(map[net.Conn]struct{})}
	g.pool.replace(o.Endpoints)
	g.ctx, g.end = context.WithCancel(context.Background())
	g.running.Go(g.probe)
	return g
}

// Serve passes connections on until the listener ends. It answers nil after Close, else why.
func (g *Gateway) Serve() error {
	for {
		c, err := g.from.Accept()
		if err == nil {
			g.spawn(func() { g.pass(c) })
			continue
		}
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			return g.unlessClosed(err)
		}
		g.options.Logger.Warn("failed to accept a connection; trying again", zap.Error(err))
		g.pause(acceptPause)
	}
}

// unlessClosed is err, but nil once Close was called: that is what it comes of.
func (g *Gateway) unlessClosed(err error) error {
	select {
	case <-g.ctx.Done():
		return nil
	default:
		return err
	}
}

// spawn runs f in a goroutine that Close joins, unless Close was called.
func (g *Gateway) spawn(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.running.Go(f)
	}
}

// Close ends the listener and all connections.
func (g *Gateway) Close() error {
	g.end()
	err := g.from.Close()
	g.mu.Lock()
	g.over = true
	for c := range g.conns {
		_ = c.Close() // who held it finds out
	}
	g.mu.Unlock()
	g.running.Wait()
	return err
}

// hold has Close close c. It answers false after Close.
func (g *Gateway) hold(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.conns[c] = struct{}{}
	}
	return !g.over
}

func (g *Gateway) release(c net.Conn) {
	_ = c.Close() // nothing is left to lose
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// pass connects a client to an endpoint, until both have said all they had to.
func (g *Gateway) pass(client net.Conn) {
	defer g.release(client)
	if !g.hold(client) {
		return
	}
	server := g.connect(client)
	if server == nil {
		return
	}
	defer g.release(server)
	if !g.hold(server) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { stream(client, server) })
	stream(server, client)
	back.Wait()
}

// connect tries one endpoint after the other; nil if none can be reached.
func (g *Gateway) connect(client net.Conn) net.Conn {
	var tried []*backend
	for b := g.pool.next(nil); b != nil && g.ctx.Err() == nil; b = g.pool.next(tried) {
		c, err := g.dial(b)
		if err == nil {
			return c
		}
		tried = append(tried, b)
	}
	if g.ctx.Err() == nil {
		g.options.Logger.Warn("no endpoint can be reached; the connection is closed", zap.Stringer("client", client.RemoteAddr()), zap.Int("tried", len(tried)))
	}
	return nil
}

// dial connects to one endpoint, and notes whether it could.
func (g *Gateway) dial(b *backend) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(g.ctx, dialTime)
	defer cancel()
	c, err := g.options.Dial(ctx, "tcp", b.Address)
	if g.ctx.Err() == nil && g.pool.mark(b, err != nil) {
		if err != nil {
			g.options.Logger.Warn("deactivated endpoint", zap.String("address", b.Address), zap.Duration("retry-delay", g.options.RetryDelay), zap.Error(err))
		} else {
			g.options.Logger.Info("reactivated endpoint", zap.String("address", b.Address))
		}
	}
	return c, err
}

// probe looks after the endpoints that are down, and asks anew which there are.
func (g *Gateway) probe() {
	for g.pause(g.options.RetryDelay) {
		if g.options.Resolve != nil {
			found, err := g.options.Resolve(g.ctx)
			switch {
			case err == nil && len(found) > 0:
				g.pool.replace(found)
			case g.ctx.Err() == nil:
				g.options.Logger.Warn("failed to look the endpoints up again; those of before stay", zap.Error(err))
			}
		}
		var all sync.WaitGroup
		for _, b := range g.pool.stale() {
			all.Go(func() {
				if c, err := g.dial(b); err == nil {
					_ = c.Close() // it was to be reached, no more
				}
			})
		}
		all.Wait()
	}
}

// pause waits, and tells whether to go on.
func (g *Gateway) pause(d time.Duration) bool {
	t := g.options.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.ctx.Done():
		return false
	}
}
