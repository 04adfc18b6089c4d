package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"keelson/internal/apply"
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
// read from the ring. It has two goroutines, compactions and run.
type reclaimer struct {
	mu *sync.Mutex // machine.mu
	// life counts the states that snapshots brought. machine.mu guards it.
	life uint64
	// installing is the machine's.
	installing *atomic.Bool
	kv         *mvcc.Store
	hub        *watch.Hub
	store      *store.Store
	clock      clock.Clock
	// paused is told how long each step of a compaction held mu.
	paused func(time.Duration)
	// wake is signalled when a compaction was applied.
	wake chan struct{}

	state   sync.Mutex // guards the rest
	targets []int64    // compactions applied and not begun, ascending
	done    int64      // the newest compaction that has left the store
	waiting map[chan struct{}]int64
}

func newReclaimer(m *machine, state apply.State, s *store.Store, d Deps) *reclaimer {
	paused := d.Observe.IndexPause
	if paused == nil {
		paused = func(time.Duration) {}
	}
	return &reclaimer{
		mu: &m.mu, installing: &m.installing, kv: state.KV, hub: state.Watch, store: s, clock: d.Clock, paused: paused,
		wake: make(chan struct{}, 1), waiting: map[chan struct{}]int64{},
	}
}

// run reclaims memory until ctx is done.
func (r *reclaimer) run(ctx context.Context) {
	tick := r.clock.NewTicker(reclaimInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
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

// compactions runs compactions one after the other until ctx is done.
func (r *reclaimer) compactions(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for rev, ok := r.next(); ok; rev, ok = r.next() {
			r.compact(ctx, rev)
		}
	}
}

// next takes the oldest compaction that was applied and not begun.
func (r *reclaimer) next() (rev int64, ok bool) {
	r.state.Lock()
	defer r.state.Unlock()
	if len(r.targets) == 0 {
		return 0, false
	}
	rev, r.targets = r.targets[0], r.targets[1:]
	return rev, true
}

// compact has the store delete what the compaction at rev made dead. The store pulls it out of memory piece by piece.
func (r *reclaimer) compact(ctx context.Context, rev int64) {
	r.mu.Lock()
	life := r.life
	gone := r.store.Compact(store.Compaction{Rev: rev, Dead: func(max int) ([]schema.Revision, error) {
		return r.prune(ctx, rev, life, max)
	}})
	r.mu.Unlock()
	select {
	case <-gone:
	case <-ctx.Done():
		return
	}
	// The store ends a compaction early when it fails or is replaced: only its own mark tells that it is done.
	if rev, err := apply.LoadRevision(r.store, schema.FinishedCompactKey); err == nil {
		r.finished(rev)
	}
}

// errStopped and errReplaced are why a compaction stays unfinished. The next start, or the state that took the place,
// resumes it.
var (
	errStopped  = errors.New("the member stops")
	errReplaced = errors.New("all state was replaced by a snapshot")
)

// prune drops what a compaction at rev made dead from memory, at most max revisions, and gives them. What is dead in
// another life's state is not for the file of this one.
func (r *reclaimer) prune(ctx context.Context, rev int64, life uint64, max int) (dead []schema.Revision, err error) {
	for more := true; more && len(dead) < max; {
		if ctx.Err() != nil {
			return nil, errStopped
		}
		var some []schema.Revision
		r.mu.Lock()
		if life != r.life {
			r.mu.Unlock()
			return nil, errReplaced
		}
		start := r.clock.Now()
		some, more = r.kv.Prune(rev, min(reclaimStep, max-len(dead)))
		took := r.clock.Now().Sub(start)
		r.mu.Unlock()
		r.paused(took)
		dead = append(dead, some...)
	}
	return dead, nil
}

// replaced notes that an installed snapshot took the place of all state. It is called under machine.mu.
func (r *reclaimer) replaced() { r.life++ }

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
