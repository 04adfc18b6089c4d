package listen

import (
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// sniffTime is how long a connection may take to its first request. Clients that connect ahead of need begin again.
	sniffTime = 30 * time.Second
	// sniffsMax bounds the connections that have not sent their first request: 4,096 × at most 64 KiB, usually half a KiB.
	// More wait in the kernel's queue.
	sniffsMax = 4096
)

// Split shares one listener, in plain text or a Secure, between gRPC and HTTP. Serve runs it; GRPC and HTTP are the listeners for the two
// servers. Closing either of them, or the Split, closes the socket.
//
// Goroutines: Serve's own, and one for each connection until its first request is read. Close joins none; Serve answers once
// all are done.
type Split struct {
	from       net.Listener
	log        *zap.Logger
	grpc, http side
	closed     chan struct{}
	closeOnce  sync.Once
	closeErr   error

	mu    sync.Mutex
	young map[net.Conn]struct{} // connections before their first request; nil once closed; guarded by mu
}

// side is the half of a Split that one server accepts from.
type side struct {
	split *Split
	conns chan net.Conn
}

// NewSplit shares l.
func NewSplit(l net.Listener, log *zap.Logger) *Split {
	s := &Split{from: l, log: log, closed: make(chan struct{}), young: map[net.Conn]struct{}{}}
	s.grpc = side{s, make(chan net.Conn)}
	s.http = side{s, make(chan net.Conn)}
	return s
}

// GRPC gives the connections that begin with a gRPC request.
func (s *Split) GRPC() net.Listener { return &s.grpc }

// HTTP gives all others, of HTTP/1 and HTTP/2.
func (s *Split) HTTP() net.Listener { return &s.http }

// Close closes the socket and the connections that neither server has yet; those that were handed over stay open.
func (s *Split) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		s.closeErr = s.from.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.young {
			c.Close()
		}
		s.young = nil
	})
	return s.closeErr
}

// Serve accepts until the socket is closed. It answers nil after Close, else why it ended.
func (s *Split) Serve() error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, sniffsMax)
	return acceptAll(s.from, s.closed, s.log, s.Close, func(c net.Conn) {
		select {
		case slots <- struct{}{}:
		case <-s.closed:
			c.Close()
			return
		}
		running.Go(func() {
			defer func() { <-slots }()
			s.route(c)
		})
	})
}

// route reads a connection's beginning and hands it to its server. Nobody waits for a server longer than the Split lives.
func (s *Split) route(c net.Conn) {
	if !s.adopt(c) {
		c.Close()
		return
	}
	defer s.release(c)
	// A deadline fails on a closed connection alone, and there the next read tells.
	_ = c.SetDeadline(time.Now().Add(sniffTime))
	p, again, err := isHTTP, c, error(nil)
	if t, secure := State(c); !secure || t.NegotiatedProtocol != "http/1.1" {
		p, again, err = sniff(c)
	}
	if err != nil {
		s.log.Debug("closed a connection before its first request", zap.Stringer("remote-addr", c.RemoteAddr()), zap.Error(err))
		c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	to := &s.http
	if p == isGRPC {
		to = &s.grpc
	}
	select {
	case to.conns <- again:
	case <-s.closed:
		c.Close()
	}
}

func (s *Split) adopt(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil {
		return false
	}
	s.young[c] = struct{}{}
	return true
}

func (s *Split) release(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, c)
}

func (h *side) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.split.closed:
		return nil, net.ErrClosed
	}
}

func (h *side) Close() error   { return h.split.Close() }
func (h *side) Addr() net.Addr { return h.split.from.Addr() }
