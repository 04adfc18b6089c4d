package peer

import (
	"errors"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// intakeBytesMax bounds what all posted messages that are not whole yet hold together. Members post some MiB at most, and
	// who they are is known only where TLS tells it.
	intakeBytesMax = 256 << 20
	// A body that keeps its reader waiting for longer than paceTime must have brought paceBytes for each second of that.
	paceTime  = 30 * time.Second
	paceBytes = 16 << 10
)

var (
	// errTooSlow is returned for a body that comes in drops.
	errTooSlow = errors.New("peer: a request's body comes too slowly")
	// errTooMuch is returned when what others send fills the room for messages.
	errTooMuch = errors.New("peer: too many bytes are being posted at once")
)

// slowBody bounds the silence within a request's body, and how slowly it may come.
type slowBody struct {
	body    io.Reader
	control *http.ResponseController
	silence time.Duration
	waited  time.Duration
	n       int64
}

func (s *slowBody) Read(b []byte) (int, error) {
	start := time.Now()
	_ = s.control.SetReadDeadline(start.Add(s.silence)) // what can't be bounded is read all the same
	n, err := s.body.Read(b)
	_ = s.control.SetReadDeadline(time.Time{})
	s.waited += time.Since(start)
	s.n += int64(n)
	if err == nil && s.waited > paceTime && s.n < int64(s.waited.Seconds()*paceBytes) {
		err = errTooSlow
	}
	return n, err
}

// metered counts what is held in memory of one body, out of a room that all share. Its owner empties it.
type metered struct {
	from io.Reader
	room *semaphore.Weighted
	held int64
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.from.Read(b)
	if !m.room.TryAcquire(int64(n)) {
		return 0, errTooMuch
	}
	m.held += int64(n)
	return n, err
}

func (m *metered) empty() {
	m.room.Release(m.held)
	m.held = 0
}

// body is a request's body, within bounds of time.
func (t *Transport) body(w http.ResponseWriter, r *http.Request) io.Reader {
	return &slowBody{body: r.Body, control: http.NewResponseController(w), silence: t.o.ReadTimeout}
}
