package listen

import (
	"net/http"
	"strings"
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
// bodies that take longer set deadlines of their own. The bound of a body ends with it: net/http lifts the deadline as it begins
// to look for the client's end of the connection, and a stream of HTTP/2 has nothing more to read.
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
		defer func() { _ = c.SetReadDeadline(time.Now().Add(leftoverTime)) }()
		next.ServeHTTP(w, r)
	})
}
