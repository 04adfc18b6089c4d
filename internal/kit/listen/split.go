package listen

import (
	"container/list"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// sniffTime is how long a connection may take to its first request. Clients that connect ahead of need begin again.
	sniffTime = 30 * time.Second
	// sniffsMax bounds the connections that have not sent their first request: 4,096 × at most 64 KiB, usually half a KiB.
	// For one more the oldest is closed: whoever opens many and sends nothing keeps nobody else out.
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
	youngMax   int // see sniffsMax
	closed     chan struct{}
	closeOnce  sync.Once
	closeErr   error

	mu    sync.Mutex
	young *list.List // connections before their first request, oldest first; nil once closed; guarded by mu
}

// side is the half of a Split that one server accepts from.
type side struct {
	split *Split
	conns chan net.Conn
}

// NewSplit shares l.
func NewSplit(l net.Listener, log *zap.Logger) *Split {
	s := &Split{from: l, log: log, youngMax: sniffsMax, closed: make(chan struct{}), young: list.New()}
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
		for e := s.young.Front(); e != nil; e = e.Next() {
			e.Value.(net.Conn).Close()
		}
		s.young = nil
	})
	return s.closeErr
}

// Serve accepts until the socket is closed. It answers nil after Close, else why it ended.
func (s *Split) Serve() error {
	var running sync.WaitGroup
	defer running.Wait()
	return acceptAll(s.from, s.closed, s.log, s.Close, func(c net.Conn) {
		place := s.adopt(c) // here: the oldest is the one that was accepted first, in whichever order goroutines begin
		running.Go(func() { s.route(c, place) })
	})
}

// route reads a connection's beginning and hands it to its server. Nobody waits for a server longer than the Split lives.
func (s *Split) route(c net.Conn, place *list.Element) {
	if place == nil {
		c.Close()
		return
	}
	defer s.release(place)
	// A deadline fails on a closed connection alone, and there the next read tells.
	_ = c.SetDeadline(time.Now().Add(sniffTime))
	p, again, err := isHTTP, c, error(nil)
	if t, secure := State(c); !secure || t.NegotiatedProtocol != "http/1.1" {
		p, again, err = sniff(c)
	}
	if err != nil {
		s.tell(c, err)
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

// tell logs why a connection ended before its first request. That one said nothing, or went away, is no news: probes of
// load balancers do so all day.
func (s *Split) tell(c net.Conn, err error) {
	level := zap.WarnLevel
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
		level = zap.DebugLevel
	}
	s.log.Log(level, "closed a connection before its first request", zap.Stringer("remote-addr", c.RemoteAddr()), zap.Error(err))
}

// adopt gives a connection a place among the young ones, if need be the oldest one's; nil once all is closed.
func (s *Split) adopt(c net.Conn) *list.Element {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil {
		return nil
	}
	if s.young.Len() >= s.youngMax {
		s.young.Remove(s.young.Front()).(net.Conn).Close()
	}
	return s.young.PushBack(c)
}

// release gives a place up. One that was taken by another connection already is no longer in the list, which is no harm.
func (s *Split) release(place *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young != nil {
		s.young.Remove(place)
	}
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
