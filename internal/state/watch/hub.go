// Package watch tells watchers what changed.
//
// The apply goroutine appends each revision's changes to a ring and publishes the revision: two stores and a
// wake-up, whatever the number of watchers. One dispatcher goroutine, owned by the Hub and joined by Close,
// matches new revisions to the groups of watchers that share a range and wakes their streams. A watcher is a
// cursor, the next revision it has not seen: the events themselves are read from the ring when its stream
// asks for them (Stream.Next), so a peer that never reads costs nothing but its watchers. A cursor that has
// left the ring reads from the store, in pieces, with no lock that anyone else waits for.
//
// Order, for each watcher: its created answer first; every event at or after its start once, in revision
// order; a revision whole in one answer, unless fragments were asked for; nothing after its canceled answer.
// A progress answer with revision R comes after all events up to R. Events are shared between watchers and
// never changed.
//
// Locks, outermost first: Hub.store, index.mu, Stream.mu; group.mu is taken with none held.
package watch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/state/mvcc"
)

const (
	// DefaultRingBytes and DefaultRingRevs bound the ring: a watcher that is ten seconds behind 10,000 puts of
	// 256 B a second is still served from memory.
	DefaultRingBytes = 32 << 20
	DefaultRingRevs  = 100_000
	// DefaultProgressInterval is etcd's.
	DefaultProgressInterval = 10 * time.Minute
	// DefaultFragmentBytes is etcd's: a request of 1.5 MiB and 512 KiB beside it.
	DefaultFragmentBytes = 2 << 20

	// answerBytes is where an answer's events end: whole revisions are packed up to it; a larger revision goes
	// alone. With one answer rendered at a time this is what a stream costs while it sends.
	answerBytes = 1 << 20
	// pieceRevs and pieceBytes end a piece of history, whichever comes first.
	pieceRevs  = 1000
	pieceBytes = 1 << 20
	// passRevs is how many revisions the dispatcher matches under one hold of the index: 1,024 x ~300 ns =
	// 0.3 ms that a new watcher may wait.
	passRevs = 1024
	// controlsMax is how many created and canceled answers may wait in a stream before Watch and Cancel wait:
	// 256 x ~150 B = 38 KiB a stream.
	controlsMax = 256
)

var (
	// ErrClosed is returned when the stream or the hub is closed.
	ErrClosed = errors.New("watch: stream is closed")
	// ErrDuplicateID is returned when the stream has a watcher of that number.
	ErrDuplicateID = errors.New("watch: number is taken")
	// ErrEmptyRange is returned when a range ends before it starts.
	ErrEmptyRange = errors.New("watch: range is empty")
	// ErrNegativeStart is returned when a start revision is below 0.
	ErrNegativeStart = errors.New("watch: start revision is negative")
)

// Options are the hub's settings; their zero values mean the Default constants, the system clock, no log, no
// prev_kv for events that have left the ring.
type Options struct {
	RingBytes        int64
	RingRevs         int64
	FragmentBytes    int
	ProgressInterval time.Duration
	Clock            clock.Clock
	Logger           *zap.Logger
	// Prev gives key's encoded mvccpb.KeyValue as it was at revision rev, nil where it was not live. An error
	// means an answer without it.
	Prev func(ctx context.Context, key []byte, rev int64) ([]byte, error)
	// OnEvents is told how many events an answer carries.
	OnEvents func(n int)
}

func (o *Options) fill() {
	if o.RingBytes == 0 {
		o.RingBytes = DefaultRingBytes
	}
	if o.RingRevs == 0 {
		o.RingRevs = DefaultRingRevs
	}
	if o.FragmentBytes == 0 {
		o.FragmentBytes = DefaultFragmentBytes
	}
	if o.ProgressInterval == 0 {
		o.ProgressInterval = DefaultProgressInterval
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Prev == nil {
		o.Prev = func(context.Context, []byte, int64) ([]byte, error) { return nil, nil }
	}
	if o.OnEvents == nil {
		o.OnEvents = func(int) {}
	}
}

// Hub is the meeting point of the apply goroutine and all watch streams.
type Hub struct {
	opts    Options
	history archive

	ring       atomic.Pointer[ring]
	published  atomic.Int64
	durable    atomic.Int64
	compacted  atomic.Int64
	dispatched atomic.Int64 // up to where the dispatcher has woken every watcher concerned
	watchers   atomic.Int64
	opened     atomic.Int64 // streams ever opened

	index index

	// store is held for reading while history is read, and for writing from Suspend to Reset. suspended is the
	// apply goroutine's own.
	store     sync.RWMutex
	suspended bool

	wake chan struct{}
	stop chan struct{}
	done chan struct{}
}

// New gives a hub at revision 1, the empty store's, and starts its dispatcher. h has every revision that
// left the ring.
func New(o Options, h mvcc.History) *Hub {
	o.fill()
	hub := &Hub{
		opts: o, history: archive{History: h}, index: newIndex(),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	hub.Reset(1, 0)
	go hub.dispatch()
	return hub
}

// Append adds one finished transaction's changes, whose revision is the next one. Nobody sees them before
// Publish. The slice is the caller's again, the bytes are shared. Apply goroutine.
func (h *Hub) Append(changes []mvcc.Change) {
	if len(changes) == 0 {
		return
	}
	r := h.ring.Load()
	if changes[0].Rev.Main != r.next {
		h.opts.Logger.Panic("watch: revisions do not follow each other",
			zap.Int64("revision", changes[0].Rev.Main), zap.Int64("expected", r.next))
	}
	r.append(changes, h.durable.Load())
}

// Publish lets watchers see the appended revisions up to rev. Apply goroutine.
func (h *Hub) Publish(rev int64) {
	h.published.Store(rev)
	if h.watchers.Load() == 0 {
		return // who registers after this looks at published after it is counted
	}
	h.poke()
}

func (h *Hub) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// SetDurable tells that the store has every revision up to rev: the ring may drop those.
func (h *Hub) SetDurable(rev int64) { h.durable.Store(rev) }

// Compacted tells that revisions below rev are gone. It is called before the store deletes any: a watcher
// that reads them from there is canceled.
func (h *Hub) Compacted(rev int64) { h.compacted.Store(rev) }

// RingStart gives the oldest revision in the ring.
func (h *Hub) RingStart() int64 { return h.ring.Load().start() }

// Suspend waits for whoever reads history and holds back who wants to, until Reset. It is called before the
// store's file is replaced: history read from a new file that is compacted farther than the hub knows would
// have holes. Apply goroutine.
func (h *Hub) Suspend() {
	if !h.suspended {
		h.store.Lock()
		h.suspended = true
	}
}

// Reset starts anew at revision rev with an empty ring, when the state was loaded or a snapshot installed.
// Every watcher goes on from its cursor, out of the store. Apply goroutine.
func (h *Hub) Reset(rev, compactRev int64) {
	h.index.mu.Lock()
	h.ring.Store(newRing(rev+1, h.opts.RingBytes, h.opts.RingRevs))
	h.compacted.Store(compactRev)
	h.durable.Store(rev)
	h.published.Store(rev)
	h.reseat(rev)
	h.index.mu.Unlock()
	if h.suspended {
		h.suspended = false
		h.store.Unlock()
	}
}

// Stats counts the open streams, their watchers, how many of those have something to read, and how many
// answers other than events wait to be taken.
func (h *Hub) Stats() (streams, watchers, slow, pending int) {
	h.index.mu.Lock()
	defer h.index.mu.Unlock()
	for s := range h.index.streams {
		s.mu.Lock()
		watchers += len(s.watchers)
		pending += len(s.controls) + len(s.parts)
		slow += len(s.ready)
		s.mu.Unlock()
	}
	return len(h.index.streams), watchers, slow, pending
}

// Close stops the dispatcher and closes every stream. The apply goroutine has ended.
func (h *Hub) Close() {
	close(h.stop)
	<-h.done
	if h.suspended {
		h.suspended = false
		h.store.Unlock()
	}
	h.index.mu.Lock()
	open := make([]*Stream, 0, len(h.index.streams))
	for s := range h.index.streams {
		open = append(open, s)
	}
	h.index.mu.Unlock()
	for _, s := range open {
		s.Close()
	}
}
