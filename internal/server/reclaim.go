package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/watch"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// The reclaimer works in steps so small that a put that waits for one (both take machine.mu) does not notice: a step
// of 512 versions takes well under a millisecond.
const (
	reclaimInterval = 100 * time.Millisecond
	reclaimStep     = 512
)

// reclaimer gives memory and disk back: dead versions after a compaction, superseded values that watchers no longer
// read from the ring. Its one goroutine is started by run.
type reclaimer struct {
	mu *sync.Mutex // machine.mu
	// installing is the machine's.
	installing *atomic.Bool
	kv         *mvcc.Store
	hub        *watch.Hub
	store      *store.Store
	clock      clock.Clock
	// wake is signalled when a compaction was applied.
	wake chan struct{}

	state   sync.Mutex // guards the rest
	targets []int64    // compactions applied and not begun, ascending
	done    int64      // the newest compaction that has left the store
	waiting map[chan struct{}]int64
}

func newReclaimer(m *machine, kv *mvcc.Store, hub *watch.Hub, s *store.Store, c clock.Clock) *reclaimer {
	return &reclaimer{mu: &m.mu, installing: &m.installing, kv: kv, hub: hub, store: s, clock: c, wake: make(chan struct{}, 1), waiting: map[chan struct{}]int64{}}
}

// run reclaims until ctx is done.
func (r *reclaimer) run(ctx context.Context) {
	tick := r.clock.NewTicker(reclaimInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			r.compact(ctx)
		case <-tick.C:
			r.evict()
		}
	}
}

// evict lets superseded values leave memory that are in the store and outside the watchers' ring.
func (r *reclaimer) evict() {
	durable := r.store.Committed().Rev
	r.hub.SetDurable(durable)
	// A snapshot that is being installed replaces all of it. Otherwise the lock is waited for: under load it is hardly
	// ever free, and what is not evicted piles up.
	for more := true; more && !r.installing.Load(); {
		r.mu.Lock()
		more = r.kv.Evict(durable, r.hub.RingStart())
		r.mu.Unlock()
	}
	if !r.installing.Load() {
		r.mu.Lock()
		r.kv.Expire(r.clock.Now())
		r.mu.Unlock()
	}
}

// compacted notes a compaction. It is called under machine.mu.
func (r *reclaimer) compacted(rev int64) {
	r.state.Lock()
	r.targets = append(r.targets, rev)
	r.state.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// compact drops what compactions up to the newest one made dead, from memory and then from the store. Those before the
// newest leave all of it to that one, but each gets its hash.
func (r *reclaimer) compact(ctx context.Context) {
	r.state.Lock()
	targets := r.targets
	r.targets = nil
	r.state.Unlock()
	if len(targets) == 0 {
		return
	}
	newest := targets[len(targets)-1]
	var dead []schema.Revision
	for more := true; more; {
		if ctx.Err() != nil {
			return // half of the dead must not pass for all: the next start resumes
		}
		var some []schema.Revision
		r.mu.Lock()
		some, more = r.kv.Prune(reclaimStep)
		r.mu.Unlock()
		dead = append(dead, some...)
	}
	for _, rev := range targets {
		gone := r.store.Compact(store.Compaction{Rev: rev, Dead: func(n int) []schema.Revision {
			if rev != newest {
				return nil
			}
			n = min(n, len(dead))
			next := dead[:n]
			dead = dead[n:]
			return next
		}})
		select {
		case <-gone:
		case <-ctx.Done():
			return
		}
	}
	// The store ends a compaction early when it fails or is replaced: only its own mark tells that it is done.
	if rev, err := loadRevision(r.store, schema.FinishedCompactKey); err == nil {
		r.finished(rev)
	}
}

// finished tells who waits that compactions up to rev have left the store.
func (r *reclaimer) finished(rev int64) {
	r.state.Lock()
	defer r.state.Unlock()
	r.done = max(r.done, rev)
	for ch, want := range r.waiting {
		if want <= r.done {
			close(ch)
			delete(r.waiting, ch)
		}
	}
}

// waitCompacted returns once a compaction to rev has left the store.
func (r *reclaimer) waitCompacted(ctx context.Context, rev int64) error {
	ch := make(chan struct{})
	r.state.Lock()
	if r.done >= rev {
		r.state.Unlock()
		return nil
	}
	r.waiting[ch] = rev
	r.state.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		r.state.Lock()
		delete(r.waiting, ch)
		r.state.Unlock()
		return explainRead(ctx.Err(), ErrTimeout)
	}
}
