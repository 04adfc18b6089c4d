package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"keelson/internal/kit/wire"
	"keelson/internal/state/watch"
)

// watcher follows a range of keys through all that happens, from member to member, and keeps what it was told.
type watcher struct {
	n        int
	cluster  *cluster
	r        *rand.Rand
	key, end string
	loyal    bool // it stays where it is until it must move
	// spans are what it saw; there is more than one where a compaction took what came between.
	spans []*span
	next  atomic.Int64 // the first revision that it doesn't know yet
	goal  atomic.Int64 // where it may stop, 0 while there is no end, below 0: at once
	done  chan struct{}
	// seen is when it saw each revision, since the beginning.
	seen map[int64]time.Duration
}

// span is what a watcher saw without an interruption: all changes of its range from one revision to another.
type span struct {
	from, to int64
	events   []event
}

func newWatcher(n int, c *cluster, key, end string, start int64) *watcher {
	w := &watcher{n: n, cluster: c, r: c.seed.rand("watcher", n), key: key, end: end, done: make(chan struct{}), seen: map[int64]time.Duration{}}
	w.next.Store(start)
	if start > 0 {
		w.spans = []*span{{from: start, to: start - 1}}
	}
	return w
}

// run watches until the goal is reached.
func (w *watcher) run() {
	defer close(w.done)
	for !w.finished() {
		all := w.cluster.serving()
		if len(all) == 0 {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		w.visit(all[w.r.IntN(len(all))])
		time.Sleep(between(w.r, time.Millisecond, 30*time.Millisecond))
	}
}

func (w *watcher) finished() bool {
	goal := w.goal.Load()
	return goal < 0 || goal > 0 && w.next.Load() > goal
}

// visit watches at one member for a while.
func (w *watcher) visit(l *life) {
	s := l.member.Watch().NewStream(l.member.Header)
	defer s.Close()
	if _, err := s.Watch(watch.WatchRequest{Key: []byte(w.key), End: []byte(w.end), StartRev: w.next.Load()}); err != nil {
		if !errors.Is(err, watch.ErrClosed) {
			w.cluster.fail("watcher %d at %s: %v", w.n, l.node.name, err)
		}
		return
	}
	stay := time.Now().Add(between(w.r, 200*time.Millisecond, 4*time.Second))
	for !w.finished() && (w.loyal || time.Now().Before(stay)) {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		resp, err := s.Next(ctx)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			s.RequestProgress()
		case err != nil:
			return
		case !w.take(l, resp):
			return
		}
	}
}

// take keeps an answer. It is false if the watch has ended.
func (w *watcher) take(l *life, r *wire.WatchResponse) bool {
	if r.Canceled {
		if r.CompactRevision == 0 {
			w.cluster.fail("watcher %d at %s was cancelled: %s", w.n, l.node.name, r.CancelReason)
			return false
		}
		w.cluster.journal.add(l.node.name, "w%d cancelled at %d, compacted %d", w.n, w.next.Load(), r.CompactRevision)
		w.begin(r.CompactRevision)
		return false
	}
	if r.Created {
		if w.next.Load() == 0 {
			w.begin(r.Header.Revision + 1)
		}
		return true
	}
	last := w.spans[len(w.spans)-1]
	for _, e := range r.Events {
		if p := w.cluster.plan.Faults.DropEvents; p > 0 && w.r.Float64() < p {
			continue
		}
		kv, err := wire.ParseKeyValue(e.KV)
		if err != nil {
			w.cluster.fail("watcher %d at %s: %v", w.n, l.node.name, err)
			return false
		}
		last.events = append(last.events, event{rev: kv.Mod, key: string(kv.Key), value: string(kv.Value), del: e.Delete})
		last.to = max(last.to, kv.Mod)
		w.seen[kv.Mod] = time.Since(w.cluster.journal.start)
	}
	if len(r.Events) == 0 {
		last.to = max(last.to, r.Header.Revision)
	}
	w.next.Store(max(w.next.Load(), last.to+1))
	return true
}

func (w *watcher) begin(rev int64) {
	w.spans = append(w.spans, &span{from: rev, to: rev - 1})
	w.next.Store(rev)
}

// prefixEnd gives the end of the range of keys with a prefix.
func prefixEnd(p string) string {
	b := []byte(p)
	b[len(b)-1]++
	return string(b)
}

func (w *watcher) String() string { return fmt.Sprintf("w%d [%q,%q)", w.n, w.key, w.end) }

// sees tells whether a key is in the watcher's range.
func (w *watcher) sees(key string) bool {
	switch w.end {
	case "":
		return key == w.key
	case "\x00":
		return key >= w.key
	}
	return key >= w.key && key < w.end
}
