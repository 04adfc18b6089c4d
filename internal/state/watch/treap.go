package watch

import "strings"

// node is a node of a treap over the ranges, ordered by span; last is the span in its subtree that ends last.
type node struct {
	g           *group
	rank        uint64
	last        span
	left, right *node
}

func compareSpans(a, b span) int {
	if c := strings.Compare(a.key, b.key); c != 0 {
		return c
	}
	return compareEnds(a, b)
}

func compareEnds(a, b span) int {
	switch {
	case a.end == b.end:
		return 0
	case a.open() || !b.open() && a.end > b.end:
		return 1
	}
	return -1
}

func insert(n, add *node) *node {
	switch {
	case n == nil:
		return add
	case add.rank > n.rank:
		add.left, add.right = split(n, add.g.span)
		n = add
	case compareSpans(add.g.span, n.g.span) < 0:
		n.left = insert(n.left, add)
	default:
		n.right = insert(n.right, add)
	}
	n.settle()
	return n
}

// split parts a subtree into what comes before s and what comes after it.
func split(n *node, s span) (before, after *node) {
	switch {
	case n == nil:
		return nil, nil
	case compareSpans(n.g.span, s) < 0:
		n.right, after = split(n.right, s)
		before = n
	default:
		before, n.left = split(n.left, s)
		after = n
	}
	n.settle()
	return before, after
}

func remove(n *node, s span) *node {
	switch c := compareSpans(s, n.g.span); {
	case c == 0:
		return merge(n.left, n.right)
	case c < 0:
		n.left = remove(n.left, s)
	default:
		n.right = remove(n.right, s)
	}
	n.settle()
	return n
}

func merge(before, after *node) *node {
	switch {
	case before == nil:
		return after
	case after == nil:
		return before
	case before.rank > after.rank:
		before.right = merge(before.right, after)
		before.settle()
		return before
	}
	after.left = merge(before, after.left)
	after.settle()
	return after
}

func (n *node) settle() {
	n.last = n.g.span
	for _, child := range [...]*node{n.left, n.right} {
		if child != nil && compareEnds(child.last, n.last) > 0 {
			n.last = child.last
		}
	}
}

// scramble (splitmix64) makes ranks out of a counter: the treap is balanced whatever order ranges come in,
// and the same in every run.
func scramble(x uint64) uint64 {
	x *= 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
