package jsonapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
)

// A WebSocket carries one call, of the method that its path names. Each message from the client is one JSON request, each answer a
// text message: what would be a line of a stream's body. A browser can give no headers: a token comes as the subprotocol
// "Bearer, TOKEN", or in a cookie named token. All this is etcd's; unlike there, a call that takes one request does not wait for
// more, and the socket is closed in due form.

const (
	// socketBufferBytes is what a socket holds for reading and for writing.
	socketBufferBytes = 1024
	// farewellTime is how long the last word may take.
	farewellTime = time.Second
	tokenCookie  = "token"
	// bearer is the subprotocol that says that a token follows.
	bearer = "Bearer"
)

// errSocketClosed is returned to whoever writes to a socket whose client is gone.
var errSocketClosed = errors.New("jsonapi: the WebSocket is closed")

// socket serves one WebSocket. It returns when the call is over and the connection closed.
func (e *Edge) socket(w http.ResponseWriter, r *http.Request) {
	e.sockets.Add(1)
	defer e.sockets.Done()
	protocol := r.Header.Get("Sec-WebSocket-Protocol")
	chosen := http.Header{}
	if strings.HasPrefix(protocol, bearer) {
		chosen.Set("Sec-WebSocket-Protocol", bearer)
	}
	// Whose pages may open one is decided before (package access).
	up := websocket.Upgrader{ReadBufferSize: socketBufferBytes, WriteBufferSize: socketBufferBytes, CheckOrigin: func(*http.Request) bool { return true }}
	c, err := up.Upgrade(w, r, chosen)
	if err != nil {
		e.o.Logger.Debug("a WebSocket was not opened", zap.String("remote-addr", r.RemoteAddr), zap.Error(err))
		return
	}
	c.SetReadLimit(e.bodyMax)
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // what is closed so has nothing left to lose
	s := &socket{conn: c, cancel: cancel, limit: e.writeMax, single: r.URL.Path != watchPath && r.URL.Path != keepAlivePath, messages: make(chan []byte)}
	var reading sync.WaitGroup
	reading.Go(func() { s.read(ctx) })
	call := r.Clone(ctx)
	call.Method, call.Body, call.ContentLength = http.MethodPost, s, -1
	call.Header = callHeader(r, protocol)
	e.negotiate(call)
	e.mux.ServeHTTP(s, call.WithContext(from(call)))
	s.end()
	stop()
	cancel()
	_ = c.Close()
	reading.Wait()
}

// callHeader is what of a socket's headers counts for its call.
func callHeader(r *http.Request, protocol string) http.Header {
	h := http.Header{}
	for _, name := range []string{"Origin", "Referer", "Accept", "Content-Type"} {
		if v := r.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	if v := r.Header.Get("Authorization"); v != "" {
		h.Set("Authorization", v)
	}
	if protocol != "" {
		h.Set("Authorization", tokenOf(protocol))
	}
	if cookie, err := r.Cookie(tokenCookie); err == nil {
		h.Set("Authorization", bearer+" "+cookie.Value)
	}
	return h
}

// tokenOf finds the token behind "Bearer," in a list of subprotocols; some browsers write no blank.
func tokenOf(protocol string) string {
	_, token, ok := strings.Cut(protocol, bearer+",")
	if !ok {
		return ""
	}
	return bearer + " " + strings.Trim(token, " ")
}

// socket is a WebSocket as a request's body and its answer. The gateway reads on one goroutine and writes on another.
type socket struct {
	conn   *websocket.Conn
	cancel context.CancelFunc
	limit  time.Duration // of a write
	// single ends the body behind the first message.
	single bool

	// The body: messages come from read, which closes the channel.
	messages chan []byte
	message  []byte // what is left of the newest one
	ended    bool

	// The answer.
	header http.Header
	line   bytes.Buffer // not yet sent
	err    error
}

var (
	_ io.ReadCloser       = (*socket)(nil)
	_ http.ResponseWriter = (*socket)(nil)
)

// read hands messages over until the client is gone, which ends the call.
func (s *socket) read(ctx context.Context) {
	defer s.cancel()
	defer close(s.messages)
	for {
		_, message, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		select {
		case s.messages <- append(message, '\n'):
		case <-ctx.Done():
			return
		}
	}
}

func (s *socket) Read(p []byte) (int, error) {
	for len(s.message) == 0 {
		if s.ended {
			return 0, io.EOF
		}
		var ok bool
		if s.message, ok = <-s.messages; !ok {
			s.ended = true
			return 0, io.EOF
		}
		s.ended = s.single
	}
	n := copy(p, s.message)
	s.message = s.message[n:]
	return n, nil
}

func (s *socket) Close() error { return nil }

func (s *socket) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}

// WriteHeader drops the code: the handshake had its own.
func (s *socket) WriteHeader(int) {}

// Write sends every line that is whole.
func (s *socket) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		s.line.Write(line)
		if !whole {
			return n, s.err
		}
		s.send()
		p = rest
	}
}

// Flush has nothing to do: lines are sent at once.
func (s *socket) Flush() {}

// send sends the line as a message. A client that does not take it is given up.
func (s *socket) send() {
	defer s.line.Reset()
	if s.err != nil || s.line.Len() == 0 {
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.limit)) // it fails with the write
	if err := s.conn.WriteMessage(websocket.TextMessage, s.line.Bytes()); err != nil {
		s.err = errors.Join(errSocketClosed, err)
		s.cancel()
	}
}

// end sends what is left, and the last word.
func (s *socket) end() {
	s.send()
	word := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = s.conn.WriteControl(websocket.CloseMessage, word, time.Now().Add(farewellTime)) // nobody waits for it
}
