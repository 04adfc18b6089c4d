package tcpgateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/kit/clock"
)

// patience bounds what a test waits for.
const patience = time.Minute

// member answers each connection with its name, then with what it gets.
type member struct {
	net.Listener
	name    string
	serving sync.WaitGroup
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func serveMember(t *testing.T, name string) *member {
	t.Helper()
	m := &member{Listener: listen(t), name: name}
	m.serving.Go(func() {
		for {
			c, err := m.Accept()
			if err != nil {
				return
			}
			m.serving.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, m.name)
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { m.stop() })
	return m
}

func (m *member) stop() {
	m.Close()
	m.serving.Wait()
}

func (m *member) address() string { return m.Addr().String() }

func start(t *testing.T, o Options) (*Gateway, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	o.Logger, o.Clock = zap.New(core), clock.System
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = time.Minute
	}
	g := New(listen(t), o)
	served := make(chan error, 1)
	go func() { served <- g.Serve() }()
	t.Cleanup(func() {
		g.Close()
		if err := <-served; err != nil {
			t.Error("Serve:", err)
		}
	})
	return g, logs
}

// ask connects through the gateway and gives the first byte that comes; nothing where the connection is closed.
func ask(t *testing.T, g *Gateway) (net.Conn, string) {
	t.Helper()
	c, err := net.Dial("tcp", g.from.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	n, err := c.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return c, string(b[:n])
}

// The end of one direction does not end the other, and bytes arrive whole whatever their number.
func TestPassesAll(t *testing.T) {
	m := serveMember(t, "a")
	g, _ := start(t, Options{Endpoints: []Endpoint{{Address: m.address()}}})
	for _, size := range []int{0, 1, idleBytes, idleBytes + 1, busyBytes, 3*busyBytes + 7, 5 << 20} {
		c, _ := ask(t, g)
		sent := bytes.Repeat([]byte("0123456789abcdef."), size/17+1)[:size]
		var writing sync.WaitGroup
		writing.Go(func() {
			_, _ = c.Write(sent)
			_ = c.(*net.TCPConn).CloseWrite()
		})
		got, err := io.ReadAll(c)
		writing.Wait()
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes became %d: %v", size, len(got), err)
		}
	}
}

// A client notices nothing of an endpoint that is not there, and that one is left alone from then on.
func TestHidesFailures(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	var mu sync.Mutex
	dials, down := map[string]int{}, false
	g, logs := start(t, Options{Endpoints: []Endpoint{{Address: a.address()}, {Address: b.address()}}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		dials[address]++
		if down && address == b.address() {
			address = "127.0.0.1:1" // the port that it had may be somebody else's by now
		}
		mu.Unlock()
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	if _, got := ask(t, g); got != "a" {
		t.Error(got)
	}
	b.Close()
	mu.Lock()
	down = true
	mu.Unlock()
	for range 6 {
		if _, got := ask(t, g); got != "a" {
			t.Error(got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if dials[b.address()] != 1 {
		t.Errorf("%d attempts at an endpoint that is down", dials[b.address()])
	}
	if logs.FilterMessage("deactivated endpoint").Len() != 1 {
		t.Error("the log does not say once that it is down")
	}
}

// With none left the connection is closed, and the next one tries again: nobody waits for the retry delay then.
func TestAllDown(t *testing.T) {
	a := serveMember(t, "a")
	var down atomic.Bool
	down.Store(true)
	g, _ := start(t, Options{Endpoints: []Endpoint{{Address: a.address()}}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if down.Load() {
			address = "127.0.0.1:1"
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	if _, got := ask(t, g); got != "" {
		t.Error(got)
	}
	down.Store(false)
	if _, got := ask(t, g); got != "a" {
		t.Error(got)
	}
}

// An endpoint that comes back, and ones that are new, get connections after the retry delay.
func TestProbes(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	var mu sync.Mutex
	down := true
	g, _ := start(t, Options{
		Endpoints: []Endpoint{{Address: a.address()}}, RetryDelay: 5 * time.Millisecond,
		Resolve: func(context.Context) ([]Endpoint, error) {
			return []Endpoint{{Address: a.address()}, {Address: b.address()}}, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if down && address == b.address() {
				down = false
				return nil, errors.New("unreachable")
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	})
	for end := time.Now().Add(patience); ; {
		if _, got := ask(t, g); got == "b" {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the endpoint that came back gets nothing")
		}
	}
}

// Close ends connections that nobody uses.
func TestClose(t *testing.T) {
	m := serveMember(t, "a")
	g, _ := start(t, Options{Endpoints: []Endpoint{{Address: m.address()}}})
	c, _ := ask(t, g)
	g.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
}
