package listen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// idleServer serves both protocols in plain text. Requests to /wait are answered once wait is closed or the client is gone.
func idleServer(t *testing.T, configure func(*http.Server), wait <-chan struct{}) (address string, accepted *counted) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted = &counted{Listener: l, asked: make(chan struct{}, 1)}
	s := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			accepted.asked <- struct{}{}
			select {
			case <-wait:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, "answer")
	})}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	configure(s)
	go s.Serve(accepted)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String(), accepted
}

// counted counts the connections that nothing leads to any more.
type counted struct {
	net.Listener
	asked chan struct{} // has one for each request that waits
	gone  atomic.Int64
}

type plainConn struct{ net.Conn }

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p := &plainConn{c}
	runtime.AddCleanup(p, func(gone *atomic.Int64) { gone.Add(1) }, &l.gone)
	return p, nil
}

// ask sends a request by HTTP/1.1 and reads the answer.
func ask(t *testing.T, c net.Conn, path string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "answer" {
		t.Fatalf("%q, %v", body, err)
	}
}

// A connection that is not used ends, by either protocol; one whose request takes longer than that does not.
func TestIdleEnds(t *testing.T) {
	t.Parallel()
	wait := make(chan struct{})
	address, _ := idleServer(t, func(s *http.Server) { s.ConnState = Idle(20 * time.Millisecond) }, wait)
	asked := make(chan struct{})
	busy := dialed(t, address)
	go func() {
		defer close(asked)
		ask(t, busy, "/wait")
	}()
	old := dialed(t, address)
	ask(t, old, "/")
	second := dialed(t, address)
	if _, err := io.WriteString(second, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := http2.NewFramer(second, nil).WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for protocol, c := range map[string]net.Conn{"HTTP/1.1": old, "HTTP/2": second} {
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Errorf("an idle connection of %s stays open", protocol)
		}
	}
	close(wait)
	<-asked
}

// Nothing of a connection stays that its client drops with a request under way.
func TestDroppedLeavesNothing(t *testing.T) {
	t.Parallel()
	address, accepted := idleServer(t, func(s *http.Server) { s.ConnState = Idle(time.Hour) }, nil)
	const drops = 20
	for range drops {
		c := dialed(t, address)
		if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
		var headers bytes.Buffer
		e := hpack.NewEncoder(&headers)
		for _, f := range []string{":method=GET", ":scheme=http", ":authority=x", ":path=/wait"} {
			name, value, _ := strings.Cut(f, "=")
			if err := e.WriteField(hpack.HeaderField{Name: name, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		f := http2.NewFramer(c, nil)
		err := errors.Join(f.WriteSettings(), f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers.Bytes(), EndHeaders: true, EndStream: true}))
		if err != nil {
			t.Fatal(err)
		}
		<-accepted.asked
		c.Close()
	}
	for deadline := time.Now().Add(patience); accepted.gone.Load() < drops; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("of %d dropped connections %d are still in memory", drops, drops-accepted.gone.Load())
		}
	}
}
