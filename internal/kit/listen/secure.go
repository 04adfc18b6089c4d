package listen

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// handshakeTime bounds one handshake, with all that it looks up: etcd's bound.
	handshakeTime = 10 * time.Second
	// handshakesMax bounds the handshakes under way: 1,024 × 64 KiB at most, usually a few KiB. One more, and the oldest is given up, so
	// that those who connect and stay silent keep nobody out for long.
	handshakesMax = 1024
	// handshakeBytesMax is what a client may send before its handshake is done. A chain of certificates is some 10 KiB.
	handshakeBytesMax = 64 << 10
)

var (
	errSlowClient   = fmt.Errorf("listen: the TLS handshake was not done within %v", handshakeTime)
	errCrowdedOut   = errors.New("listen: too many connections began after this one, which had not finished its TLS handshake")
	errChattyClient = errors.New("listen: more bytes than any TLS handshake takes")
)

// recordHandshake is the first byte of every TLS connection, and of no HTTP one.
const recordHandshake = 22

// SecureOptions steer a Secure.
type SecureOptions struct {
	Config *tls.Config
	// Plain lets connections in plain text through too.
	Plain bool
	// Refused is told of every connection that does not get through.
	Refused func(Refusal)
	Logger  *zap.Logger
}

// Secure is a listener whose connections have done their TLS handshake: each is a *tls.Conn, but for those in plain text where
// these are let through. Serve runs it. Handshakes are done beside each other, outside of Accept.
//
// Goroutines: Serve's own, and one for each handshake. Close joins none; Serve answers once all are done.
type Secure struct {
	from net.Listener
	o    SecureOptions

	conns  chan net.Conn
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	once   sync.Once
	err    error // of closing the socket; set within once

	mu    sync.Mutex // guards the rest
	young *list.List // of *handshake, oldest first
}

// Refusal is a connection that did not get past its handshake.
type Refusal struct {
	Remote net.Addr
	// State is what was known of the other side by then.
	State tls.ConnectionState
	Err   error
}

// handshake is one under way.
type handshake struct {
	conn *quota
	end  context.CancelCauseFunc
}

// NewSecure does the handshakes of l.
func NewSecure(l net.Listener, o SecureOptions) *Secure {
	s := &Secure{from: l, o: o, conns: make(chan net.Conn), young: list.New()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts until the socket is closed. It answers nil after Close, else why it ended.
func (s *Secure) Serve() error {
	var running sync.WaitGroup
	defer running.Wait()
	return acceptAll(s.from, s.ctx.Done(), s.o.Logger, s.Close, func(c net.Conn) {
		ctx, end := context.WithCancelCause(s.ctx)
		h := &handshake{&quota{Conn: c, left: handshakeBytesMax}, end}
		place := s.enter(h)
		running.Go(func() {
			defer end(nil)
			s.shake(ctx, h, place)
		})
	})
}

// enter counts a handshake in, and the oldest one out where there are too many.
func (s *Secure) enter(h *handshake) *list.Element {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young.Len() >= handshakesMax {
		oldest := s.young.Remove(s.young.Front()).(*handshake)
		oldest.end(errCrowdedOut)
	}
	return s.young.PushBack(h)
}

func (s *Secure) leave(place *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.young.Remove(place) // nothing where it was crowded out
}

// shake does a handshake and hands the connection to whoever accepts.
func (s *Secure) shake(ctx context.Context, h *handshake, place *list.Element) {
	timed, cancel := context.WithTimeoutCause(ctx, handshakeTime, errSlowClient)
	c, err := s.begin(timed, h.conn)
	if cause := context.Cause(timed); err != nil && cause != nil {
		err = cause
	}
	cancel()
	s.leave(place)
	if err != nil {
		if s.ctx.Err() == nil {
			state, _ := State(c)
			s.o.Refused(Refusal{c.RemoteAddr(), state, err})
		}
		c.Close()
		return
	}
	h.conn.lift()
	select {
	case s.conns <- c:
	case <-s.ctx.Done():
		c.Close()
	}
}

// begin does the handshake, or finds out that there will be none. It gives a connection also with an error.
func (s *Secure) begin(ctx context.Context, c net.Conn) (net.Conn, error) {
	if s.o.Plain {
		first, err := firstByte(ctx, c)
		if err != nil {
			return c, err
		}
		c = &replay{Conn: c, rest: []byte{first}}
		if first != recordHandshake {
			return c, nil
		}
	}
	t := tls.Server(c, s.o.Config)
	return t, t.HandshakeContext(ctx)
}

func firstByte(ctx context.Context, c net.Conn) (byte, error) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	return b[0], err
}

// Accept gives the next connection whose handshake is done.
func (s *Secure) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close closes the socket and the connections in their handshake; those that were accepted stay open.
func (s *Secure) Close() error {
	s.once.Do(func() {
		s.cancel()
		s.err = s.from.Close()
	})
	return s.err
}

// Addr is the socket's.
func (s *Secure) Addr() net.Addr { return s.from.Addr() }

// quota bounds what is read from a connection until it is lifted.
type quota struct {
	net.Conn
	left   int
	lifted bool
}

// lift is called between two reads.
func (q *quota) lift() { q.lifted = true }

func (q *quota) Read(b []byte) (int, error) {
	if q.lifted {
		return q.Conn.Read(b)
	}
	if q.left <= 0 {
		return 0, errChattyClient
	}
	n, err := q.Conn.Read(b[:min(len(b), q.left)])
	q.left -= n
	return n, err
}

// State gives the TLS state of a connection that a Secure accepted, also where a Split lies between; false: it is in plain text.
func State(c net.Conn) (tls.ConnectionState, bool) {
	switch c := c.(type) {
	case *tls.Conn:
		return c.ConnectionState(), true
	case *replay:
		return State(c.Conn)
	case *ackFilter:
		return State(c.Conn)
	}
	return tls.ConnectionState{}, false
}
