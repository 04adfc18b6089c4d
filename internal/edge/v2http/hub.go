package v2http

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/wire"
	"keelson/internal/server"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/v2tree"
	"keelson/internal/state/watch"
)

const (
	// eventsWaiting is how many events a stream may be behind before it is cut, as in 3.4. It never holds up others.
	eventsWaiting = 100
	// historyRevs is how far back history is read at a start, so that who waited at a member that was started anew can go on.
	historyRevs = 10_000
	// retryHistory is the pause after history could not be read.
	retryHistory = time.Second
)

// hub follows the member's v2 keys, keeps the newest events, and hands them to who waits. One goroutine, which close joins;
// it watches as any v3 client would, in this process.
type hub struct {
	member  Keys
	options Options
	stats   *stats
	ends    *ends
	stream  *watch.Stream

	mu sync.Mutex // guards the rest
	// seen is up to which revision everything is in history, news is closed when that changes.
	seen    int64
	news    chan struct{}
	history history
	// waiters are by the path that they watch.
	waiters map[string][]*waiter
	count   int
	closed  bool
	// ended is closed when nothing will be told any more.
	ended chan struct{}

	stop    context.CancelFunc
	running sync.WaitGroup
}

// waiter is one waiting request. Its events end when it is cut.
type waiter struct {
	path              string
	recursive, stream bool
	since             uint64
	events            chan *v2tree.Event
}

func newHub(m Keys, o Options, s *stats, x *ends) *hub {
	ctx, stop := context.WithCancel(context.Background())
	h := &hub{member: m, options: o, stats: s, ends: x, news: make(chan struct{}), ended: make(chan struct{}), waiters: map[string][]*waiter{}, stop: stop}
	h.stream = m.Watch().NewStream(func() wire.Header { return wire.Header{} })
	v := m.View()
	h.follow(max(v.Rev()-historyRevs, v.CompactRev())+1, max(v.CompactRev(), 0))
	h.running.Go(func() { h.run(ctx) })
	return h
}

// close ends all waiting requests, and the goroutine.
func (h *hub) close() {
	h.stop()
	h.stream.Close()
	h.running.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	close(h.ended)
	h.cutAll()
}

// follow starts to watch at a revision; everything after compacted can be asked for.
func (h *hub) follow(from, compacted int64) {
	from = max(from, 1)
	h.mu.Lock()
	h.saw(from - 1)
	h.history.reset(uint64(from))
	if from <= 2 && compacted == 0 {
		h.history.reset(0) // nothing is older
	}
	h.mu.Unlock()
	all := h.options.Prefix.All()
	// A stream that is closed is found out by Next, a start that is compacted by its answer.
	_, _ = h.stream.Watch(watch.WatchRequest{Key: []byte(all.Key), End: []byte(all.End), StartRev: from, PrevKV: true})
}

func (h *hub) run(ctx context.Context) {
	for {
		resp, err := h.stream.Next(ctx)
		switch {
		case err == nil && resp.Canceled:
			h.lost()
		case err == nil:
			h.take(ctx, resp)
		case ctx.Err() != nil || errors.Is(err, watch.ErrClosed):
			return
		default:
			h.options.Logger.Warn("reading the history of v2 keys failed; it is tried again", zap.Error(err))
			t := h.options.Clock.NewTimer(retryHistory)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
			}
		}
	}
}

// lost starts anew where a compaction was faster: nobody knows what came between, so who waits is cut and asks again.
func (h *hub) lost() {
	h.mu.Lock()
	h.cutAll()
	h.mu.Unlock()
	v := h.member.View()
	h.follow(v.Rev()+1, v.CompactRev())
}

// take hands an answer's events on, a revision at a time.
func (h *hub) take(ctx context.Context, resp *wire.WatchResponse) {
	if resp.Created {
		return
	}
	var changes []v2tree.Change
	for _, e := range resp.Events {
		c, err := change(e)
		if err != nil {
			h.options.Logger.Error("a change of a v2 key is left out", zap.Error(err))
			continue
		}
		if len(changes) > 0 && changes[0].Mod != c.Mod {
			h.happened(ctx, changes)
			changes = changes[:0]
		}
		changes = append(changes, c)
	}
	if len(changes) > 0 {
		h.happened(ctx, changes)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if resp.Header.Revision > h.seen {
		h.saw(resp.Header.Revision)
	}
}

// saw tells who waits for it how far history is. The mutex is held.
func (h *hub) saw(rev int64) {
	h.seen = rev
	close(h.news)
	h.news = make(chan struct{})
}

// change turns one of v3's events into v2tree's.
func change(e wire.Event) (v2tree.Change, error) {
	kv, err := wire.ParseKeyValue(e.KV)
	if err != nil {
		return v2tree.Change{}, err
	}
	c := v2tree.Change{Key: string(kv.Key), Deleted: e.Delete, Value: kv.Value, Mod: kv.Mod}
	if e.PrevKV != nil {
		prev, err := wire.ParseKeyValue(e.PrevKV)
		if err != nil {
			return c, err
		}
		c.Prev, c.PrevMod = prev.Value, prev.Mod
	}
	return c, nil
}

// happened tells of one revision.
func (h *hub) happened(ctx context.Context, changes []v2tree.Change) {
	for _, x := range h.options.Prefix.Happened(changes, h.options.Clock.Now()) {
		if x.Action == v2tree.Expire.String() {
			if !h.lived(ctx, x.Node.Key, int64(x.Index)) {
				continue
			}
			h.stats.expired.Add(1)
			if x.Node.Dir {
				x.Deleted = append(x.Deleted, h.expiredBelow(ctx, x)...)
				h.ends.left(x.Node.Key)
			}
		}
		h.mu.Lock()
		h.publish(x)
		h.mu.Unlock()
	}
}

// at is the tree at an older revision.
func (h *hub) at(ctx context.Context, rev int64) v2tree.Tree {
	return v2tree.Tree{Prefix: h.options.Prefix, View: pastView{view{ctx, h.member.View()}, rev}}
}

// lived tells whether a node whose key ended at a revision existed until then: one below a directory that had expired before
// did not. Where history has forgotten, it did.
func (h *hub) lived(ctx context.Context, clean string, rev int64) bool {
	above := v2tree.Ancestors(clean)
	if len(above) == 0 {
		return true
	}
	ok, err := h.at(ctx, rev).Has(above[len(above)-1])
	return ok || err != nil
}

// expiredBelow gives what of the watched paths went with a directory whose lease ended.
func (h *hub) expiredBelow(ctx context.Context, x v2tree.Happening) []string {
	if len(x.Deleted) > 1 {
		return nil // the keys went too
	}
	h.mu.Lock()
	var watched []string
	for p := range h.waiters {
		if strings.HasPrefix(p, slashed(x.Node.Key)) {
			watched = append(watched, p)
		}
	}
	h.mu.Unlock()
	var gone []string
	for _, p := range watched {
		if ok, err := h.at(ctx, int64(x.Index)-1).Has(p); ok || err != nil {
			gone = append(gone, p)
		}
	}
	return gone
}

// publish keeps an event and tells who watches its node, what is above it, and what went with it. The mutex is held.
func (h *hub) publish(x v2tree.Happening) {
	if x.Refresh {
		h.history.add(x.Event)
		return
	}
	for _, gone := range x.Deleted {
		h.tell(x.Event, gone, true)
	}
	h.history.add(x.Event)
	h.tell(x.Event, "/", false)
	for _, dir := range v2tree.Ancestors(x.Node.Key) {
		h.tell(x.Event, dir, false)
	}
	h.tell(x.Event, x.Node.Key, false)
}

// tell hands an event to the waiters of one path. Those that wait for one event alone are done with it, and so are those
// that are too far behind.
func (h *hub) tell(e *v2tree.Event, watched string, deleted bool) {
	all := h.waiters[watched]
	kept := all[:0]
	itself := e.Node.Key == watched
	for _, w := range all {
		asked := (w.recursive || itself || deleted) && e.Index >= w.since && (itself || !hiddenFrom(watched, e.Node.Key))
		if !asked || w.hand(e) {
			kept = append(kept, w)
			continue
		}
		close(w.events)
		h.count--
	}
	clear(all[len(kept):])
	if len(kept) == 0 {
		delete(h.waiters, watched)
		return
	}
	h.waiters[watched] = kept
}

// hand gives a waiter an event; it tells whether the waiter goes on.
func (w *waiter) hand(e *v2tree.Event) bool {
	select {
	case w.events <- e:
		return w.stream
	default:
		return false
	}
}

func (h *hub) cutAll() {
	for _, all := range h.waiters {
		for _, w := range all {
			close(w.events)
		}
	}
	clear(h.waiters)
	h.count = 0
}

// settled returns once everything up to a revision is in history.
func (h *hub) settled(ctx context.Context, rev int64) error {
	for {
		h.mu.Lock()
		seen, news, closed := h.seen, h.news, h.closed
		h.mu.Unlock()
		if seen >= rev {
			return nil
		}
		if closed {
			return server.ErrStopped
		}
		h.stream.RequestProgress()
		select {
		case <-news:
		case <-ctx.Done():
			return server.ErrTimeout
		}
	}
}

// add makes w wait, unless the event that it asks for is there already; index is that of the state now.
func (h *hub) add(w *waiter, index uint64) (*v2tree.Event, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, server.ErrStopped
	}
	e, err := h.history.find(w.path, w.recursive, w.since, index)
	if e != nil || err != nil {
		return e, err
	}
	if h.count >= h.options.WaitsMax {
		return nil, server.ErrTooManyRequests
	}
	h.count++
	h.waiters[w.path] = append(h.waiters[w.path], w)
	return nil, nil
}

// drop ends a waiter whose client is gone.
func (h *hub) drop(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.waiters[w.path]
	for i, x := range all {
		if x != w {
			continue
		}
		h.count--
		if len(all) == 1 {
			delete(h.waiters, w.path)
			return
		}
		all[i] = all[len(all)-1]
		all[len(all)-1] = nil
		h.waiters[w.path] = all[:len(all)-1]
		return
	}
}

// waiting is how many requests wait.
func (h *hub) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// pastView is a view at an older revision.
type pastView struct {
	view
	rev int64
}

func (v pastView) Rev() int64 { return v.rev }

func (v pastView) Get(key string) (v2tree.Entry, bool, error) {
	res, err := v.keys.Range(v.ctx, mvcc.RangeOptions{Key: []byte(key), Rev: v.rev})
	if err != nil || len(res.KVs) == 0 {
		return v2tree.Entry{}, false, err
	}
	e, err := entry(res.KVs[0])
	return e, err == nil, err
}
