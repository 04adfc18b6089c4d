package listen

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// bodyTime is how long the body of a request may take to come where its handler says nothing else: such bodies are a few
	// KiB.
	bodyTime = 30 * time.Second
	// leftoverTime is how long net/http may wait for what a handler left of a body. It reads that, to use the connection again.
	leftoverTime = time.Second
	// answerTime is how long a client may take to read an answer. Profiles take as long as they are asked to.
	answerTime    = 10 * time.Minute
	profilePrefix = "/debug/pprof/"
)

// Bound has no client hold a handler for ever by a body that does not come, or an answer that is not taken. Handlers with
// bodies that take longer set deadlines of their own.
func Bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		// What can't be bounded, such as a test's recorder, is served all the same.
		if !strings.HasPrefix(r.URL.Path, profilePrefix) {
			_ = c.SetWriteDeadline(time.Now().Add(answerTime))
		}
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(bodyTime))
		b := &boundBody{ReadCloser: r.Body, control: c}
		defer b.end()
		r.Body = b
		next.ServeHTTP(w, r)
	})
}

// boundBody lifts the bound once the body has come: what is read from then on is the client's end of the connection. It may be
// read by what the handler leaves behind: the connection is the handler's alone until it returns.
type boundBody struct {
	io.ReadCloser

	mu      sync.Mutex               // guards control
	control *http.ResponseController // nil once the handler has returned
}

func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.bound(time.Time{})
	}
	return n, err
}

func (b *boundBody) bound(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.control != nil {
		_ = b.control.SetReadDeadline(until)
	}
}

// end is called when the handler returns.
func (b *boundBody) end() {
	b.bound(time.Now().Add(leftoverTime))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.control = nil
}
