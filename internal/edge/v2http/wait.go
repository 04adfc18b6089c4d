package v2http

import (
	"context"
	"net/http"
	"time"

	"keelson/internal/state/v2tree"
)

// takeTime is how long a client may take to read one event.
const takeTime = time.Minute

// wait serves a request that waits for one event, or for all that come.
func (e *Edge) wait(w http.ResponseWriter, r *http.Request, caller context.Context, q *question) {
	still, err := e.mayWatch(caller, q)
	if err != nil {
		e.refuse(w, err)
		return
	}
	index := e.member.View().Rev()
	x := &waiter{path: q.Path, recursive: q.Recursive, stream: q.stream, since: q.since, events: make(chan *v2tree.Event, eventsWaiting)}
	if x.since == 0 {
		x.since = uint64(index) + 1
	} else if x.since <= uint64(index) {
		ctx, cancel := context.WithTimeout(r.Context(), e.options.Timeout)
		err = e.hub.settled(ctx, index)
		cancel()
	}
	var past *v2tree.Event
	if err == nil {
		past, err = e.hub.add(x, uint64(index))
	}
	if err != nil {
		e.refuse(w, err)
		return
	}
	defer e.hub.drop(x)
	e.place(w, uint64(index))
	w.WriteHeader(http.StatusOK)
	s := sender{w: w, control: http.NewResponseController(w), still: still, edge: e}
	s.flush()
	if past != nil && (!s.send(past) || !q.stream) {
		return
	}
	// A stream that was served from history hears nothing more, as in 3.4, but stays open.
	s.follow(r.Context(), x)
}

// mayWatch is MayWatch for all keys that a waiting request asks about.
func (e *Edge) mayWatch(ctx context.Context, q *question) (still func() error, err error) {
	checks := []func() error{}
	add := func(key, end string) {
		if err != nil {
			return
		}
		var check func() error
		if check, err = e.member.MayWatch(ctx, []byte(key), []byte(end)); err == nil {
			checks = append(checks, check)
		}
	}
	if q.Path != "/" {
		add(e.options.Prefix.Node(q.Path), "")
	}
	if q.Recursive || q.Path == "/" {
		below := e.options.Prefix.Below(q.Path)
		add(below.Key, below.End)
	}
	return func() error {
		for _, check := range checks {
			if err := check(); err != nil {
				return err
			}
		}
		return nil
	}, err
}

// sender writes events to one client.
type sender struct {
	w       http.ResponseWriter
	control *http.ResponseController
	still   func() error
	edge    *Edge
}

// follow sends what comes.
func (s *sender) follow(ctx context.Context, x *waiter) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-x.events:
			if !ok || !s.send(ev) || !x.stream {
				return
			}
		case <-s.edge.hub.ended:
			return
		}
	}
}

// send writes one event, if the caller may still know of it.
func (s *sender) send(ev *v2tree.Event) bool {
	if s.still() != nil {
		return false
	}
	body, err := encode(ev)
	if err != nil {
		return false
	}
	// What can't be bounded, such as a test's recorder, is served all the same.
	_ = s.control.SetWriteDeadline(s.edge.options.Clock.Now().Add(takeTime))
	if _, err := s.w.Write(body); err != nil {
		return false
	}
	return s.flush()
}

// flush sends what is written. From then on the answer may take as long as nothing happens.
func (s *sender) flush() bool {
	err := s.control.Flush()
	_ = s.control.SetWriteDeadline(time.Time{})
	return err == nil
}
