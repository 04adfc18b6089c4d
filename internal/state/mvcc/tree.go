package mvcc

import "slices"

// A leaf has at most leafMax items of 32 bytes with their heads, an inner node innerMax children of 12 bytes and a shared
// separator. A put of a new key copies one leaf and one inner node a level: at a million keys about
// 30 items (1 KB) and three times 45 children (1.6 KB), once for all puts between two publications.
const (
	leafMax  = 42
	innerMax = 64
	// A node below a quarter of its size joins a neighbour when the two fit in one.
	leafMin  = leafMax / 4
	innerMin = innerMax / 4
)

// The bytes of a node's parts, for counting what copies cost.
const (
	nodeBytes = 144
	itemBytes = 32
	kidBytes  = 12
)

type item struct {
	key string
	e   *entry
}

// node is a leaf (items) or an inner node (kids). seps[i] is a lower bound of kids[i+1] and an upper bound of
// kids[i]. The order is of the items' keys, or of the separators; separators and their order are shared between
// copies and never changed in place. live[i] counts the live keys below kids[i]. A node made in an older epoch than the
// tree's is published, and never changed.
type node struct {
	epoch uint64
	items []item
	kids  []*node
	seps  []string
	live  []int32
	order order
}

// lower gives the number of items before key.
func (n *node) lower(key string) int {
	if len(n.items) == 0 {
		return 0
	}
	lo, hi := n.order.find(n.items[0].key, key)
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); n.items[m].key < key {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// child gives the number of the child that key belongs under.
func (n *node) child(key string) int {
	if len(n.seps) == 0 {
		return 0
	}
	lo, hi := n.order.find(n.seps[0], key)
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); n.seps[m] <= key {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// setItems makes items those of the leaf n.
func (n *node) setItems(items []item) {
	n.items = items
	n.order = order{heads: make([]uint64, len(items), cap(items))}
	if len(items) == 0 {
		return
	}
	n.order.skip = shared(items[0].key, items[len(items)-1].key)
	for i := range items {
		n.order.heads[i] = headOf(items[i].key[n.order.skip:])
	}
}

// setSeps makes seps those of the inner node n.
func (n *node) setSeps(seps []string) {
	n.seps = seps
	n.order = order{heads: make([]uint64, len(seps))}
	if len(seps) == 0 {
		return
	}
	n.order.skip = shared(seps[0], seps[len(seps)-1])
	for i, sep := range seps {
		n.order.heads[i] = headOf(sep[n.order.skip:])
	}
}

// put adds it to the leaf n, as item i.
func (n *node) put(i int, it item) {
	if len(n.items) == cap(n.items) {
		n.items = append(make([]item, 0, min(len(n.items)+8, leafMax)), n.items...)
	}
	keeps := len(n.items) > 0 && n.order.holds(n.items[0].key, it.key)
	n.items = slices.Insert(n.items, i, it)
	if !keeps {
		n.setItems(n.items)
		return
	}
	n.order.heads = slices.Insert(n.order.heads, i, headOf(it.key[n.order.skip:]))
}

func (n *node) get(key string) *entry {
	for n.kids != nil {
		n = n.kids[n.child(key)]
	}
	if i := n.lower(key); i < len(n.items) && n.items[i].key == key {
		return n.items[i].e
	}
	return nil
}

// liveNow counts the live keys below n in the newest state.
func (n *node) liveNow() int32 {
	var sum int32
	for _, l := range n.live {
		sum += l
	}
	for i := range n.items {
		if n.items[i].e.live() {
			sum++
		}
	}
	return sum
}

// rank counts the keys before key that are live at rev, the revision that the tree's counts are of.
func (n *node) rank(key string, rev int64) int64 {
	var sum int64
	for n.kids != nil {
		i := n.child(key)
		for _, l := range n.live[:i] {
			sum += int64(l)
		}
		n = n.kids[i]
	}
	for _, it := range n.items[:n.lower(key)] {
		if it.e.at(rev) != nil {
			sum++
		}
	}
	return sum
}

// total counts the keys that are live at rev, the revision that the tree's counts are of.
func (n *node) total(rev int64) int64 {
	var sum int64
	for _, l := range n.live {
		sum += int64(l)
	}
	for _, it := range n.items {
		if it.e.at(rev) != nil {
			sum++
		}
	}
	return sum
}

// tree is the writer's index: a root that is published by raising the epoch, after which nodes are copied
// before they are changed.
type tree struct {
	root  *node
	epoch uint64
	live  int64
	// replaced counts the bytes of published nodes that copies took the place of: what a view that is held
	// since then may pin, at most.
	replaced int64
}

func newTree() tree { return tree{root: &node{}} }

// own gives n, or a copy of it that may be changed.
func (t *tree) own(n *node) *node {
	if n.epoch == t.epoch {
		return n
	}
	t.replaced += nodeBytes + int64(len(n.items))*itemBytes + int64(len(n.kids))*kidBytes
	c := &node{epoch: t.epoch, seps: n.seps, order: n.order}
	if n.kids == nil {
		room := min(len(n.items)+2, leafMax)
		c.items = append(make([]item, 0, room), n.items...)
		c.order.heads = append(make([]uint64, 0, room), n.order.heads...)
		return c
	}
	c.kids = slices.Clone(n.kids)
	c.live = slices.Clone(n.live)
	return c
}

// insert adds a key that is not there. The entry's head must be set, and live.
func (t *tree) insert(key string, e *entry) {
	t.root = t.own(t.root)
	right, sep := t.insertInto(t.root, item{key, e})
	t.live++
	if right == nil {
		return
	}
	left := t.root
	t.root = &node{epoch: t.epoch, kids: []*node{left, right}, live: []int32{left.liveNow(), right.liveNow()}}
	t.root.setSeps([]string{sep})
}

// insertInto adds it below n, which is owned. Where n overflows it gives n's new right neighbour.
func (t *tree) insertInto(n *node, it item) (right *node, sep string) {
	if n.kids == nil {
		return t.insertItem(n, it)
	}
	i := n.child(it.key)
	kid := t.own(n.kids[i])
	n.kids[i] = kid
	n.live[i]++
	split, at := t.insertInto(kid, it)
	if split == nil {
		return nil, ""
	}
	moved := split.liveNow()
	n.live[i] -= moved
	n.kids = slices.Insert(n.kids, i+1, split)
	n.live = slices.Insert(n.live, i+1, moved)
	n.setSeps(slices.Concat(n.seps[:i], []string{at}, n.seps[i:]))
	if len(n.kids) <= innerMax {
		return nil, ""
	}
	return t.splitInner(n, i+1 == len(n.kids)-1)
}

func (t *tree) insertItem(n *node, it item) (right *node, sep string) {
	i := n.lower(it.key)
	if len(n.items) < leafMax {
		n.put(i, it)
		return nil, ""
	}
	right = &node{epoch: t.epoch}
	// A key behind all others starts a leaf: keys that come in order leave full leaves behind.
	if i == leafMax {
		right.setItems([]item{it})
		return right, it.key
	}
	const half = leafMax / 2
	upper := append(make([]item, 0, half+2), n.items[half:]...)
	clear(n.items[half:])
	right.setItems(upper)
	n.setItems(n.items[:half])
	sep = upper[0].key
	if it.key < sep {
		n.put(i, it)
	} else {
		right.put(i-half, it)
	}
	return right, sep
}

// splitInner moves the upper half of n's children, or after an append the last one alone, into a new node.
func (t *tree) splitInner(n *node, appended bool) (right *node, sep string) {
	half := len(n.kids) / 2
	if appended {
		half = len(n.kids) - 1
	}
	right = &node{epoch: t.epoch, kids: slices.Clone(n.kids[half:]), live: slices.Clone(n.live[half:])}
	right.setSeps(slices.Clone(n.seps[half:]))
	sep = n.seps[half-1]
	clear(n.kids[half:])
	n.kids, n.live = n.kids[:half], n.live[:half]
	n.setSeps(slices.Clone(n.seps[:half-1]))
	return right, sep
}

// adjust adds delta to the live counts above key, which is there: it was deleted, or put again.
func (t *tree) adjust(key string, delta int32) {
	t.live += int64(delta)
	if t.root.kids == nil {
		return
	}
	t.root = t.own(t.root)
	for n := t.root; ; {
		i := n.child(key)
		n.live[i] += delta
		if n.kids[i].kids == nil {
			return
		}
		n.kids[i] = t.own(n.kids[i])
		n = n.kids[i]
	}
}

// remove drops a key that is there and not live.
func (t *tree) remove(key string) {
	t.root = t.own(t.root)
	t.removeFrom(t.root, key)
	for len(t.root.kids) == 1 {
		t.root = t.root.kids[0]
	}
}

// removeFrom drops key below n, which is owned, and joins children that became small.
func (t *tree) removeFrom(n *node, key string) {
	if n.kids == nil {
		if i := n.lower(key); i < len(n.items) && n.items[i].key == key {
			n.items = slices.Delete(n.items, i, i+1)
			n.order.heads = slices.Delete(n.order.heads, i, i+1)
		}
		return
	}
	i := n.child(key)
	kid := t.own(n.kids[i])
	n.kids[i] = kid
	t.removeFrom(kid, key)
	if len(kid.items)+len(kid.kids) >= minSize(kid) {
		return
	}
	if i+1 < len(n.kids) && fits(kid, n.kids[i+1]) {
		t.join(n, i)
	} else if i > 0 && fits(n.kids[i-1], kid) {
		t.join(n, i-1)
	}
}

func minSize(n *node) int {
	if n.kids == nil {
		return leafMin
	}
	return innerMin
}

func fits(a, b *node) bool {
	return len(a.items)+len(b.items) <= leafMax && len(a.kids)+len(b.kids) <= innerMax
}

// join makes one of n's children i and i+1.
func (t *tree) join(n *node, i int) {
	left, right := t.own(n.kids[i]), n.kids[i+1]
	if right.kids == nil {
		left.setItems(append(left.items, right.items...))
	} else {
		left.setSeps(slices.Concat(left.seps, n.seps[i:i+1], right.seps))
		left.kids = append(left.kids, right.kids...)
		left.live = append(left.live, right.live...)
	}
	n.kids[i] = left
	n.live[i] += n.live[i+1]
	n.kids = slices.Delete(n.kids, i+1, i+2)
	n.live = slices.Delete(n.live, i+1, i+2)
	n.setSeps(slices.Concat(n.seps[:i], n.seps[i+1:]))
}

// build makes the tree of sorted items at once, leaves and inner nodes three quarters full: room for the keys to come.
func (t *tree) build(items []item) {
	const leafFill, innerFill = leafMax * 3 / 4, innerMax * 3 / 4
	level, seps := make([]*node, 0, len(items)/leafFill+1), make([]string, 0, len(items)/leafFill+1)
	for part := range slices.Chunk(items, leafFill) {
		leaf := &node{epoch: t.epoch}
		leaf.setItems(slices.Clone(part))
		level = append(level, leaf)
		seps = append(seps, part[0].key)
	}
	if len(level) == 0 {
		level = append(level, &node{epoch: t.epoch})
	}
	for len(level) > 1 {
		var up []*node
		var upSeps []string
		for i := 0; i < len(level); i += innerFill {
			j := min(i+innerFill, len(level))
			n := &node{epoch: t.epoch, kids: slices.Clone(level[i:j]), live: make([]int32, j-i)}
			n.setSeps(slices.Clone(seps[i+1 : j]))
			for k, kid := range n.kids {
				n.live[k] = kid.liveNow()
			}
			up, upSeps = append(up, n), append(upSeps, seps[i])
		}
		level, seps = up, upSeps
	}
	t.root, t.live = level[0], int64(level[0].liveNow())
}
