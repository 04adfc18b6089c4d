package watch

import (
	"context"
	"fmt"
	"weak"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// batch is what a watcher finds from its cursor up to revision to. It is shared between watchers.
type batch struct {
	events []wire.Event
	bytes  int
	to     int64
	// compacted is not 0 where the cursor is behind that compaction, and the events are lost.
	compacted int64

	// What it serves, as a cached batch: cursors in [low, first] that go up to goal and look the same.
	low, first, goal int64
	look             look
}

// read gives the next batch of w, up to goal at most. No lock is held.
func (h *Hub) read(ctx context.Context, w *watcher, goal int64) (*batch, error) {
	if w.cursor > goal {
		return &batch{to: w.cursor - 1}, nil // it starts in the future
	}
	if b := w.group.fromRing(h.ring.Load(), w.cursor, goal, h.bare(w)); b != nil {
		return b, nil
	}
	if !h.history.pace.wait(ctx, h.opts.Clock) {
		return &batch{to: w.cursor - 1}, nil
	}
	start := h.opts.Clock.Now()
	defer func() { h.history.pace.note(start, h.opts.Clock.Now()) }()
	b, err := h.fromStore(w, goal)
	if err != nil || !w.look.prev {
		return b, err
	}
	return b, h.addPrev(ctx, b)
}

// bare gives w's look with the revision that a compaction left as the oldest: what its events changed is compacted, and
// left out as it is of events from the store, though the ring may still know it.
func (h *Hub) bare(w *watcher) look {
	l := w.look
	if c := h.compacted.Load(); l.prev && w.cursor <= c {
		l.bare = c
	}
	return l
}

// fromRing gives nil where the cursor has left the ring.
func (g *group) fromRing(r *ring, cursor, goal int64, l look) *batch {
	if g.crowd.Load() < 2 {
		return g.scan(r, cursor, goal, l)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if b := g.cached.Value(); b != nil && b.goal == goal && b.look == l && b.low <= cursor && cursor <= b.first {
		return b
	}
	b := g.scan(r, cursor, goal, l)
	if b != nil {
		g.cached = weak.Make(b)
	}
	return b
}

func (g *group) scan(r *ring, cursor, goal int64, l look) *batch {
	b := &batch{to: goal, low: cursor, first: goal, goal: goal, look: l}
	whole := r.each(cursor, goal, func(rev int64, events []event) bool {
		had := len(b.events)
		size := 0
		for i := range events {
			if e := &events[i]; g.span.has(e.key) && l.sees(e.Delete) {
				size += b.add(e.Event, l, rev)
			}
		}
		if had > 0 && size > 0 && b.bytes+size > answerBytes {
			b.events = b.events[:had]
			b.to = rev - 1
			return false
		}
		if had == 0 && size > 0 {
			b.first = rev
		}
		b.bytes += size
		return true
	})
	if !whole {
		return nil
	}
	return b
}

func (l look) sees(deleted bool) bool { return deleted && !l.noDelete || !deleted && !l.noPut }

// add gives the bytes of the event of revision rev that was added, which b does not count yet.
func (b *batch) add(e wire.Event, l look, rev int64) int {
	if !l.prev || rev <= l.bare {
		e.PrevKV = nil
	}
	b.events = append(b.events, e)
	return wireSize(&e)
}

// fromStore reads one piece of history. Who compacts tells the hub before it deletes, so a cursor that is at
// or past the compaction after the read has missed nothing in it.
func (h *Hub) fromStore(w *watcher, goal int64) (*batch, error) {
	h.store.RLock()
	defer h.store.RUnlock()
	cursor := w.cursor
	if c := h.compacted.Load(); cursor < c {
		return &batch{compacted: c}, nil
	}
	b := &batch{to: min(goal, h.RingStart()-1)}
	p := piece{batch: b, span: w.group.span, look: w.look}
	err := h.history.Scan(schema.Revision{Main: cursor}, schema.Revision{Main: b.to + 1}, p.add)
	switch {
	case err != nil:
		return nil, err
	case p.err != nil:
		return nil, p.err
	}
	if c := h.compacted.Load(); cursor < c {
		return &batch{compacted: c}, nil
	}
	return b, nil
}

// piece collects a piece of history, of whole revisions.
type piece struct {
	*batch
	span  span
	look  look
	at    int64 // the revision that is being read
	revs  int
	bytes int // read, with those that do not match
	err   error
}

func (p *piece) add(rev schema.Revision, tombstone bool, stored []byte) bool {
	if rev.Main != p.at {
		if p.revs == pieceRevs || p.bytes >= pieceBytes {
			p.batch.to = rev.Main - 1
			return false
		}
		p.at = rev.Main
		p.revs++
	}
	p.bytes += len(stored)
	kv, err := wire.ParseKeyValue(stored)
	if err != nil {
		p.err = fmt.Errorf("revision %d: %w", rev.Main, err)
		return false
	}
	if !p.span.has(kv.Key) || !p.look.sees(tombstone) {
		return true
	}
	e := wire.Event{Delete: tombstone, KV: stored}
	if tombstone {
		e.KV = wire.AppendKeyValue(nil, wire.KeyValue{Key: kv.Key, Mod: rev.Main})
	}
	p.batch.bytes += p.batch.add(e, look{}, rev.Main)
	return true
}

// addPrev asks for the value before each event that changed one. As in etcd, one that is compacted is left
// out.
func (h *Hub) addPrev(ctx context.Context, b *batch) error {
	for i := range b.events {
		e := &b.events[i]
		kv, err := wire.ParseKeyValue(e.KV)
		if err != nil {
			return err
		}
		if !e.Delete && kv.Create == kv.Mod {
			continue
		}
		if e.PrevKV, err = h.opts.Prev(ctx, kv.Key, kv.Mod-1); err != nil {
			e.PrevKV = nil
		}
		b.bytes += len(e.PrevKV)
	}
	return ctx.Err()
}
