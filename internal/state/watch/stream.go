package watch

import (
	"sync"
	"sync/atomic"
	"time"

	"keelson/internal/kit/wire"
)

// noID is the watch_id of answers that are no single watcher's.
const noID = -1

// The cancel reasons are etcd's texts: clients compare them.
const (
	reasonDuplicate = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonEmpty     = "mvcc: watcher range is empty"
	reasonNegative  = "etcdserver: mvcc: required revision has been compacted"
)

// WatchRequest says what to watch. An empty Key is the key {0}. End is as in a range: empty for the one key,
// {0} for all keys from Key on. ID 0 lets the stream choose. StartRev 0 starts with the next revision.
type WatchRequest struct {
	ID                                          int64
	Key, End                                    []byte
	StartRev                                    int64
	PrevKV, NoPut, NoDelete, Progress, Fragment bool
	// Lost, if set, is asked before events go out, by Next: not empty, it is the reason why the watcher is canceled instead.
	// State that is published before the events' revisions is seen by it.
	Lost func() (reason string)
}

// look is what a watcher wants to see of the events in its span.
type look struct {
	prev, noPut, noDelete bool
	// bare is a revision: its events and older ones come without what they changed.
	bare int64
}

// watcher is one watch on a stream.
type watcher struct {
	id     int64
	stream *Stream
	look   look
	// start is the revision it was asked to begin with; no progress is told of before.
	start              int64
	progress, fragment bool
	lost               func() string

	// group and place are guarded by the index's mutex; group does not change.
	group *group
	place int

	// awake: it is in its stream's ready list or being read for. The dispatcher raises the group's to and then
	// looks at awake; Next lowers awake and then looks at to: one of them sees the other.
	awake atomic.Bool

	// The rest is guarded by the stream's mutex. While it is awake only Next moves cursor.
	// cursor is the next revision it has not seen; behind the dispatcher's while there was nothing for it.
	cursor int64
	// goal is up to where it has to look for itself, unseen by the dispatcher.
	goal int64
	gone bool
	// quiet: no event was sent since the last tick of the stream.
	quiet bool
}

// rouse is called by the dispatcher that found an event for w at revision hit, and none since it last slept.
func (w *watcher) rouse(hit int64) {
	if w.awake.Load() {
		return
	}
	s := w.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.awake.Load() {
		w.cursor = max(w.cursor, hit)
		s.queue(w)
	}
}

// Stream is the watchers of one peer. Watch, Cancel, RequestProgress, Refuse and Close may be called from any
// goroutine, Next from one at a time.
type Stream struct {
	hub    *Hub
	header func() wire.Header
	number int64 // how many were opened before

	poked chan struct{}
	// ticks is Next's own.
	ticks *time.Ticker

	// mu guards everything below. room is signaled when controls has room again.
	mu       sync.Mutex
	room     sync.Cond
	watchers map[int64]*watcher
	nextID   int64
	// parts are the remaining fragments or progress answers, sent before anything else.
	parts []*wire.WatchResponse
	// controls are created and canceled answers, in the order asked.
	controls []*wire.WatchResponse
	// ready are watchers that have something to read, each once, the first to be served first.
	ready []*watcher
	// ticking: some watcher asked for progress.
	ticking, closed bool
	asked           asked
}

// asked is the progress requests not yet answered: how many, and the revision that they wait for.
type asked struct {
	count int
	rev   int64
}

// NewStream opens a stream. header gives what each answer's header carries; its revision is set here.
func (h *Hub) NewStream(header func() wire.Header) *Stream {
	s := &Stream{
		hub: h, header: header, number: h.opened.Add(1),
		poked: make(chan struct{}, 1), watchers: make(map[int64]*watcher),
	}
	s.room.L = &s.mu
	h.index.mu.Lock()
	h.index.streams[s] = struct{}{}
	h.index.mu.Unlock()
	return s
}

// Watch adds a watcher and gives its number. What answers the peer comes out of Next: a created answer, or
// one that is created and canceled at once where Watch gives an error (ErrDuplicateID, ErrEmptyRange,
// ErrNegativeStart; ErrClosed has no answer). A start that is compacted is created, then canceled. It waits
// while 256 such answers have not been taken.
func (s *Stream) Watch(r WatchRequest) (int64, error) {
	sp := span{key: string(r.Key), end: string(r.End)}
	if sp.key == "" {
		sp.key = "\x00"
	}
	h := s.hub
	s.waitRoom()
	h.index.mu.Lock()
	defer h.index.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.poke()
	if err := s.refusal(r, sp); err != nil {
		return noID, err
	}
	w := &watcher{
		id: s.pick(r.ID), stream: s, progress: r.Progress, fragment: r.Fragment, lost: r.Lost, start: r.StartRev, quiet: true,
		look: look{prev: r.PrevKV, noPut: r.NoPut, noDelete: r.NoDelete},
	}
	if h.watchers.Add(1) == 1 {
		h.dispatched.Store(h.published.Load())
	}
	published := h.published.Load()
	s.control(&wire.WatchResponse{WatchID: w.id, Created: true}, published)
	if compacted := h.compacted.Load(); r.StartRev != 0 && r.StartRev < compacted {
		h.watchers.Add(-1)
		s.control(&wire.WatchResponse{WatchID: w.id, Canceled: true, CompactRevision: compacted}, 0)
		return w.id, nil
	}
	w.cursor = r.StartRev
	if r.StartRev == 0 {
		w.cursor = published + 1
	}
	h.index.join(w, sp)
	s.watchers[w.id] = w
	s.ticking = s.ticking || w.progress
	if w.cursor <= published {
		w.goal = published
		s.queue(w)
	}
	return w.id, nil
}

// refusal answers a request that cannot be served, and gives why.
func (s *Stream) refusal(r WatchRequest, sp span) error {
	var reason string
	var err error
	switch {
	case s.closed:
		return ErrClosed
	case r.StartRev < 0:
		reason, err = reasonNegative, ErrNegativeStart
	case !sp.single() && !sp.open() && sp.key >= sp.end:
		reason, err = reasonEmpty, ErrEmptyRange
	case r.ID != 0 && s.watchers[r.ID] != nil:
		reason, err = reasonDuplicate, ErrDuplicateID
	default:
		return nil
	}
	s.refuse(reason)
	return err
}

func (s *Stream) refuse(reason string) {
	s.control(&wire.WatchResponse{WatchID: noID, Created: true, Canceled: true, CancelReason: reason}, s.hub.published.Load())
}

func (s *Stream) pick(id int64) int64 {
	if id != 0 {
		return id
	}
	for s.watchers[s.nextID] != nil {
		s.nextID++
	}
	s.nextID++
	return s.nextID - 1
}

// Refuse answers a create request that the caller does not allow, in order with the other answers.
func (s *Stream) Refuse(reason string) {
	s.waitRoom()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse(reason)
	s.poke()
}

// Cancel ends a watcher; one that is not there is passed over, without an answer. It waits as Watch does.
func (s *Stream) Cancel(id int64) {
	s.waitRoom()
	s.drop(id, func(*watcher) {
		s.control(&wire.WatchResponse{WatchID: id, Canceled: true}, s.hub.published.Load())
	})
}

// drop takes a watcher away and, if it was there, calls last under the stream's mutex.
func (s *Stream) drop(id int64, last func(*watcher)) {
	x := &s.hub.index
	x.mu.Lock()
	defer x.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.watchers[id]; w != nil {
		s.forget(w)
		last(w)
		s.poke()
	}
}

// forget needs both mutexes. A forgotten watcher in the ready list is passed over there.
func (s *Stream) forget(w *watcher) {
	w.gone = true
	delete(s.watchers, w.id)
	s.hub.index.leave(w)
	s.hub.watchers.Add(-1)
}

// RequestProgress asks for one answer, with watch_id -1, that all watchers have seen everything up to a
// revision at or after the one published now. It comes once they have (etcd drops a request that comes too
// early). As in etcd there is none where a watcher starts in the future or there are no watchers.
func (s *Stream) RequestProgress() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = asked{count: min(s.asked.count+1, controlsMax), rev: s.hub.published.Load()}
	s.poke()
}

// Close ends the stream and all its watchers; Next then gives ErrClosed.
func (s *Stream) Close() {
	x := &s.hub.index
	x.mu.Lock()
	defer x.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watchers {
		s.forget(w)
	}
	delete(x.streams, s)
	s.closed, s.ready, s.controls, s.parts = true, nil, nil, nil
	s.room.Broadcast()
	s.poke()
}

func (s *Stream) waitRoom() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.controls) >= controlsMax && !s.closed {
		s.room.Wait()
	}
}

// control queues an answer that carries no events.
func (s *Stream) control(r *wire.WatchResponse, rev int64) {
	if s.closed {
		return
	}
	r.Header = s.headerAt(rev)
	s.controls = append(s.controls, r)
}

func (s *Stream) headerAt(rev int64) wire.Header {
	h := s.header()
	h.Revision = rev
	return h
}

// queue puts w at the end of the ready list, unless it is awake already.
func (s *Stream) queue(w *watcher) {
	if w.awake.CompareAndSwap(false, true) {
		s.ready = append(s.ready, w)
		s.poke()
	}
}

func (s *Stream) poke() {
	select {
	case s.poked <- struct{}{}:
	default:
	}
}
