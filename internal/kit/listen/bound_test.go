package listen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// patience is far above what any step here takes.
const patience = 30 * time.Second

func dialed(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// A client that is answered and never sends the body it announced does not keep its connection.
func TestBodyThatNeverComes(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: Bound(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "answer") }))}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	c := dialed(t, l.Addr().String())
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nonly"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "answer" {
		t.Errorf("%q %v", body, err)
	}
	if _, err := r.ReadByte(); err == nil || isTimeout(err) {
		t.Errorf("the connection stays open: %v", err)
	}
}

func isTimeout(err error) bool {
	ne := net.Error(nil)
	return errors.As(err, &ne) && ne.Timeout()
}

// A handler that reads a body whole may then take its time: the bound is the body's.
func TestBoundEndsWithTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := &http.Server{Handler: Bound(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				ended <- err
				return
			}
			select {
			case <-r.Context().Done():
				ended <- r.Context().Err()
			case <-time.After(2 * bodyTime):
				ended <- nil
			}
		}))}
		l := newPipes()
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		c, _ := l.dial()
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		c.Close()
		s.Close()
		<-served
	})
}

// Whoever opens many connections and sends nothing loses the oldest, and keeps nobody else out.
func TestManySilentConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSplit(l, zap.NewNop())
	s.youngMax = 4
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })}
	done := make(chan error, 2)
	go func() { done <- s.Serve() }()
	go func() { done <- h.Serve(s.HTTP()) }()
	t.Cleanup(func() { h.Close(); s.Close(); <-done; <-done })
	first := dialed(t, l.Addr().String())
	for range 2 * s.youngMax {
		dialed(t, l.Addr().String())
	}
	c := dialed(t, l.Addr().String())
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("silent connections keep others out: %v", err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "served" {
		t.Errorf("%q %v", body, err)
	}
	if _, err := first.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the oldest connection stays: %v", err)
	}
}

// What is no HTTP is told with its address; silence is not.
func TestNonsenseIsLogged(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSplit(l, zap.New(core))
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	silent := dialed(t, l.Addr().String())
	silent.Close()
	bad := dialed(t, l.Addr().String())
	if _, err := io.WriteString(bad, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x04\x00\x00\x00\x01"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, bad); err != nil {
		t.Logf("the end of the bad connection: %v", err)
	}
	s.Close()
	<-done
	all := logs.All()
	if len(all) != 1 || all[0].ContextMap()["remote-addr"] != bad.LocalAddr().String() {
		t.Errorf("%v", all)
	}
}

// late is a writer of answers that must not be asked for anything once its handler has returned, as HTTP/2's.
type late struct {
	http.ResponseWriter
	over atomic.Bool
	used atomic.Int64
}

func (l *late) SetReadDeadline(time.Time) error {
	if l.over.Load() {
		l.used.Add(1)
	}
	return nil
}

func (l *late) SetWriteDeadline(time.Time) error { return nil }

// What a handler leaves behind may still read its body when the handler has returned: net/http of HTTP/2 would panic if the
// connection's deadline were set then.
func TestBodyReadBehindItsHandler(t *testing.T) {
	from, to := io.Pipe()
	read := make(chan error, 1)
	w := &late{ResponseWriter: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodPost, "/", from)
	Bound(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		go func() {
			_, err := r.Body.Read(make([]byte, 1))
			read <- err
		}()
	})).ServeHTTP(w, r)
	w.over.Store(true)
	to.Close()
	if err := <-read; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if n := w.used.Load(); n > 0 {
		t.Errorf("%d deadlines were set behind the handler", n)
	}
}
