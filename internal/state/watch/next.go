package watch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"keelson/internal/kit/wire"
)

// Next gives the stream's next answer; it waits for one until ctx ends. Its other errors are ErrClosed and
// what reading history failed with.
func (s *Stream) Next(ctx context.Context) (*wire.WatchResponse, error) {
	for {
		r, w, goal, err := s.take()
		if r != nil || err != nil {
			return r, err
		}
		if w != nil {
			r, err := s.serve(ctx, w, goal)
			if r != nil || err != nil {
				return r, err
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			continue
		}
		if s.tellProgress() {
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.poked:
		case <-s.clock():
			s.tick()
		}
	}
}

// take gives an answer that is there already, or a watcher to read for and up to where.
func (s *Stream) take() (*wire.WatchResponse, *watcher, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		if s.ticks != nil {
			s.ticks.Stop()
		}
		return nil, nil, 0, ErrClosed
	}
	if len(s.parts) > 0 {
		return shift(&s.parts), nil, 0, nil
	}
	if len(s.controls) > 0 {
		s.room.Broadcast()
		return shift(&s.controls), nil, 0, nil
	}
	for len(s.ready) > 0 {
		if w := shift(&s.ready); !w.gone {
			return nil, w, max(w.goal, w.group.to.Load()), nil
		}
	}
	return nil, nil, 0, nil
}

// shift takes the first of a list, and lets the list's memory go with the last.
func shift[T any](list *[]*T) *T {
	first := (*list)[0]
	(*list)[0] = nil
	if *list = (*list)[1:]; len(*list) == 0 {
		*list = nil
	}
	return first
}

// serve reads for w, which take gave, and answers what it found, nil if nothing.
func (s *Stream) serve(ctx context.Context, w *watcher, goal int64) (*wire.WatchResponse, error) {
	b, err := s.hub.read(ctx, w, goal)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ready = append(s.ready, w) // still awake: the next call tries again
		return nil, fmt.Errorf("watch: read history from revision %d: %w", w.cursor, err)
	}
	if b.compacted != 0 {
		s.drop(w.id, func(*watcher) {
			s.control(&wire.WatchResponse{WatchID: w.id, Canceled: true, CompactRevision: b.compacted}, 0)
		})
		return nil, nil
	}
	if len(b.events) > 0 && w.lost != nil {
		if reason := w.lost(); reason != "" {
			s.drop(w.id, func(*watcher) {
				s.control(&wire.WatchResponse{WatchID: w.id, Canceled: true, CancelReason: reason}, s.hub.published.Load())
			})
			return nil, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.gone {
		return nil, nil
	}
	w.cursor = b.to + 1
	w.awake.Store(false)
	if w.cursor <= max(w.goal, w.group.to.Load()) {
		s.queue(w)
	}
	if len(b.events) == 0 {
		return nil, nil
	}
	w.quiet = false
	s.hub.opts.OnEvents(len(b.events))
	r := &wire.WatchResponse{Header: s.headerAt(b.to), WatchID: w.id, Events: b.events}
	if limit := s.hub.opts.FragmentBytes; w.fragment && b.bytes >= limit {
		s.parts = fragments(r, limit)
		return shift(&s.parts), nil
	}
	return r, nil
}

// fragments cuts an answer into pieces below limit bytes, or of one event; all but the last are marked.
func fragments(r *wire.WatchResponse, limit int) []*wire.WatchResponse {
	var parts []*wire.WatchResponse
	rest := r.Events
	for len(rest) > 0 {
		n, size := 0, fragmentHeaderBytes
		for n < len(rest) {
			if size += wireSize(&rest[n]); n > 0 && size >= limit {
				break
			}
			n++
		}
		part := *r
		part.Events, part.Fragment = rest[:n:n], n < len(rest)
		parts, rest = append(parts, &part), rest[n:]
	}
	return parts
}

// fragmentHeaderBytes is room for an answer's fields beside its events: a header of at most 44 B, two numbers.
const fragmentHeaderBytes = 80

// wireSize is at least the bytes that an event takes in an answer: three lengths, a type.
func wireSize(e *wire.Event) int { return len(e.KV) + len(e.PrevKV) + 20 }

// tellProgress answers the progress requests if every watcher has seen enough. It tells whether to look
// again.
func (s *Stream) tellProgress() bool {
	h := s.hub
	seen := h.dispatched.Load() // before the ready list: all events up to it are in there
	s.mu.Lock()
	if s.asked.count == 0 || len(s.ready) > 0 || len(s.watchers) == 0 || seen >= s.asked.rev {
		defer s.mu.Unlock()
		return len(s.ready) > 0 || s.answerProgress(seen)
	}
	s.mu.Unlock()
	h.index.mu.Lock()
	defer h.index.mu.Unlock()
	if h.dispatched.Load() > seen {
		return true
	}
	h.index.waiting = append(h.index.waiting, s)
	return false
}

// answerProgress is for when nothing is ready and all is seen.
func (s *Stream) answerProgress(seen int64) bool {
	count := s.asked.count
	s.asked = asked{}
	if len(s.watchers) == 0 {
		return false
	}
	for _, w := range s.watchers {
		if w.start > seen {
			return false
		}
	}
	for range count {
		s.parts = append(s.parts, &wire.WatchResponse{Header: s.headerAt(seen), WatchID: noID})
	}
	return count > 0
}

// clock gives the channel of the stream's ticker, which starts when a watcher first asks for progress. Streams
// that start together tick up to a tenth of the interval apart.
func (s *Stream) clock() <-chan time.Time {
	if s.ticks == nil {
		s.mu.Lock()
		ticking := s.ticking
		s.mu.Unlock()
		if !ticking {
			return nil
		}
		interval := s.hub.opts.ProgressInterval
		part := scramble(uint64(s.number)) % 1024
		s.ticks = s.hub.opts.Clock.NewTicker(interval + interval/10*time.Duration(part)/1024)
	}
	return s.ticks.C
}

// tick tells the progress of the watchers that asked for it, had no event since the last tick and have
// nothing to read.
func (s *Stream) tick() {
	seen := s.hub.dispatched.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.watchers)) {
		w := s.watchers[id]
		if w.progress && w.quiet && !w.awake.Load() && w.start <= seen {
			s.parts = append(s.parts, &wire.WatchResponse{Header: s.headerAt(seen), WatchID: id})
		}
		w.quiet = true
	}
}
