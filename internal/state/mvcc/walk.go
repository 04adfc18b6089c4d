package mvcc

// span is a range of keys: from lo to before hi, or without an upper end.
type span struct {
	lo, hi  string
	bounded bool
}

// one tells whether a request's end names the key alone.
func one(end []byte) bool { return len(end) == 0 }

// spanOf reads a request's key and end; end {0} is no end. The strings view the request's bytes.
func spanOf(key, end []byte) span {
	if len(end) == 1 && end[0] == 0 {
		return span{lo: text(key)}
	}
	return span{lo: text(key), hi: text(end), bounded: true}
}

func (s span) empty() bool { return s.bounded && s.hi <= s.lo }

// walk gives the items of a span, leaf by leaf and in order, to f, until f answers false. skipDead leaves out
// subtrees without a live key: right for readers at the revision that the counts are of.
type walk struct {
	span
	skipDead bool
	f        func(items []item) bool
}

func (w *walk) over(root *node) {
	if !w.empty() {
		w.node(root, true)
	}
}

// node walks n; first says that lo lies in or before it. It answers false when the walk is over.
func (w *walk) node(n *node, first bool) bool {
	if n.kids == nil {
		return w.leaf(n, first)
	}
	start := 0
	if first {
		start = n.child(w.lo)
	}
	for i := start; i < len(n.kids); i++ {
		if w.bounded && i > 0 && n.seps[i-1] >= w.hi {
			return false
		}
		if w.skipDead && n.live[i] == 0 {
			continue
		}
		if !w.node(n.kids[i], first && i == start) {
			return false
		}
	}
	return true
}

func (w *walk) leaf(n *node, first bool) bool {
	from, to := 0, len(n.items)
	if first {
		from = n.lower(w.lo)
	}
	if w.bounded && to > 0 && n.items[to-1].key >= w.hi {
		to = n.lower(w.hi)
	}
	if from < to && !w.f(n.items[from:to]) {
		return false
	}
	return to == len(n.items)
}
