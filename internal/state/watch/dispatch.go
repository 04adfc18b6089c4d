package watch

// dispatch is the dispatcher's goroutine.
func (h *Hub) dispatch() {
	defer close(h.done)
	for {
		select {
		case <-h.stop:
			return
		case <-h.wake:
		}
		for h.pass() {
			select {
			case <-h.stop:
				return
			default:
			}
		}
	}
}

// pass matches a bounded number of published revisions and wakes the watchers concerned. It tells whether
// there are more.
func (h *Hub) pass() bool {
	x := &h.index
	x.mu.Lock()
	defer x.mu.Unlock()
	published, from := h.published.Load(), h.dispatched.Load()+1
	to := min(published, from+passRevs-1)
	x.passes++
	x.touched = x.touched[:0]
	whole := h.ring.Load().each(from, to, func(rev int64, events []event) bool {
		for i := range events {
			x.match(events[i].key, rev)
		}
		return true
	})
	if !whole {
		h.reseat(published)
		to = published
	}
	for _, g := range x.touched {
		g.to.Store(to)
		for _, w := range g.watchers {
			w.rouse(g.hit)
		}
	}
	clear(x.touched)
	h.dispatched.Store(to)
	for _, s := range x.waiting {
		s.poke()
	}
	x.waiting = x.waiting[:0]
	return to < h.published.Load()
}

// reseat makes every watcher look for itself at everything it has not seen up to rev: after a Reset, or when
// the ring went past the dispatcher. The index's mutex is held.
func (h *Hub) reseat(rev int64) {
	seen := h.dispatched.Load() + 1
	for s := range h.index.streams {
		s.mu.Lock()
		for _, w := range s.watchers {
			if !w.awake.Load() {
				w.cursor = max(w.cursor, seen)
			}
			w.goal = rev
			s.queue(w)
		}
		s.mu.Unlock()
	}
	h.dispatched.Store(rev)
}
