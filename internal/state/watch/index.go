package watch

import (
	"sync"
	"sync/atomic"
	"weak"
)

// span is what a watcher watches: one key where end is empty; every key from key on where end is {0}; else
// [key, end).
type span struct{ key, end string }

func (s span) single() bool { return s.end == "" }
func (s span) open() bool   { return s.end == "\x00" }

func (s span) has(key []byte) bool {
	if s.single() {
		return string(key) == s.key
	}
	return string(key) >= s.key && s.endsAfter(key)
}

func (s span) endsAfter(key []byte) bool { return s.open() || string(key) < s.end }

// group is all watchers of one span, on any stream. What one of them reads from the ring the others reuse.
type group struct {
	span span
	// to is up to where the group's watchers have something to read: every pass of the dispatcher that finds
	// an event for them raises it, before it looks whether they are awake.
	to atomic.Int64
	// crowd is the number of watchers.
	crowd atomic.Int32

	// watchers, pass and hit are guarded by the index's mutex. hit is the first revision that the pass found.
	watchers []*watcher
	pass     uint64
	hit      int64

	// mu guards cached, the batch read last. It is weak: between two collections it serves the watchers that
	// read the same, and a group at rest holds no events.
	mu     sync.Mutex
	cached weak.Pointer[batch]
}

// index finds the groups that watch a key.
type index struct {
	// mu guards everything below, and is held by the dispatcher for one pass, never by the apply goroutine
	// (but in Reset). Whoever holds it may take a stream's mutex, not the other way round.
	mu      sync.Mutex
	singles map[string]*group
	ranges  map[span]*group
	tree    *node
	seed    uint64
	streams map[*Stream]struct{}
	// waiting are the streams that want to know when the next pass is over.
	waiting []*Stream
	// passes counts the dispatcher's passes; touched are the groups that this one found an event for.
	passes  uint64
	touched []*group
}

func newIndex() index {
	return index{
		singles: make(map[string]*group),
		ranges:  make(map[span]*group),
		streams: make(map[*Stream]struct{}),
	}
}

// join puts w into the group of the span, made if need be.
func (x *index) join(w *watcher, s span) {
	g := x.singles[s.key]
	if !s.single() {
		g = x.ranges[s]
	}
	if g == nil {
		g = &group{span: s}
		if s.single() {
			x.singles[s.key] = g
		} else {
			x.ranges[s] = g
			x.seed++
			x.tree = insert(x.tree, &node{g: g, rank: scramble(x.seed), last: s})
		}
	}
	w.group, w.place = g, len(g.watchers)
	g.watchers = append(g.watchers, w)
	g.crowd.Add(1)
}

// leave takes w out of its group, and an empty group out of the index.
func (x *index) leave(w *watcher) {
	g := w.group
	last := len(g.watchers) - 1
	g.watchers[w.place] = g.watchers[last]
	g.watchers[w.place].place = w.place
	g.watchers[last] = nil
	g.watchers = g.watchers[:last]
	g.crowd.Add(-1)
	if last > 0 {
		return
	}
	if g.span.single() {
		delete(x.singles, g.span.key)
		return
	}
	delete(x.ranges, g.span)
	x.tree = remove(x.tree, g.span)
}

// match touches every group that watches key, which changed at revision rev.
func (x *index) match(key []byte, rev int64) {
	if g := x.singles[string(key)]; g != nil {
		x.touch(g, rev)
	}
	x.stab(x.tree, key, rev)
}

func (x *index) touch(g *group, rev int64) {
	if g.pass != x.passes {
		g.pass, g.hit = x.passes, rev
		x.touched = append(x.touched, g)
	}
}

func (x *index) stab(n *node, key []byte, rev int64) {
	for n != nil && n.last.endsAfter(key) {
		x.stab(n.left, key, rev)
		if n.g.span.key > string(key) {
			return
		}
		if n.g.span.endsAfter(key) {
			x.touch(n.g, rev)
		}
		n = n.right
	}
}
