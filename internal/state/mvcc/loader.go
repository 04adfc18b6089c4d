package mvcc

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"sync/atomic"
	"unsafe"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// What is loaded comes from slabs: for half a million keys that is 1.5 million fewer objects to make and to
// mark. A slab lives as long as one element of it: what stays pinned is at most what was loaded, 32 bytes a
// version, 8 an entry, and the keys. Values stand alone, for they leave memory one by one.
const (
	slabVersions = 256
	slabEntries  = 512
	slabKeyBytes = 16 << 10
)

// loadParts is how many shares of the keys are made on their own: of half a million keys one is 8,000, which lie in a
// processor's cache while they are looked up.
const loadParts = 64

// Loader fills a store from the file that follows it, on several processors. The file comes in stretches of consecutive
// revisions, of which each is noted by one goroutine, by part: the keys of one hash. Then each part is made by one
// goroutine, from what all stretches have noted of it. Nothing is visible before Done.
type Loader struct {
	s         *Store
	seed      maphash.Seed
	stretches []stretch
	parts     [loadParts]part
	newest    schema.Revision
	// prefix is the length of what all keys begin with.
	prefix int
	// superseding holds in the order of revisions the versions that have one before them, and nil for the others.
	superseding []*version
}

// stretch is what was noted of consecutive revisions.
type stretch struct {
	first, last schema.Revision
	noted       [loadParts]notes
	// count is the number of revisions, base that of all stretches before.
	count, base int
	// keys all begin with prefix.
	prefix []byte
}

// notes are the revisions of a part's keys in a stretch, in order, and those keys one behind the other.
type notes struct {
	revs []note
	keys []byte
}

// note is a revision as it was read: 32 bytes until it is made. kv lies in the file's map.
type note struct {
	kv   *byte
	main int64
	sub  uint32 // as in a version
	size uint32
	key  uint32 // its length
	at   uint32 // its number in the stretch
}

// part is what was made of one share of the keys: sorted, and the tombstones in order.
type part struct {
	items   []ranked
	deleted []numbered
}

type numbered struct {
	at int // the revision's number among all
	grave
}

// Loader starts loading. Done replaces all that the store held.
func (s *Store) Loader() *Loader { return &Loader{s: s, seed: maphash.MakeSeed()} }

// Begin says in how many stretches the revisions come.
func (l *Loader) Begin(stretches int) { l.stretches = make([]stretch, stretches) }

// Add takes the next stored revision of a stretch, in the order of revisions. kv must stay as it is until all parts are
// gathered. The error says that the order or kv is broken. One goroutine calls it for a stretch.
func (l *Loader) Add(n int, rev schema.Revision, tombstone bool, kv []byte) error {
	s := &l.stretches[n]
	if s.count > 0 && !s.last.Less(rev) {
		return outOfOrder(s.last, rev)
	}
	p, err := wire.ParseKeyValue(kv)
	if err != nil {
		return fmt.Errorf("mvcc: load revision %d.%d: %w", rev.Main, rev.Sub, err)
	}
	if s.count == 0 {
		s.first, s.prefix = rev, bytes.Clone(p.Key)
	} else if k := len(s.prefix); k > len(p.Key) || text(p.Key[:k]) != text(s.prefix) {
		s.prefix = s.prefix[:shared(text(s.prefix), text(p.Key))]
	}
	r := note{kv: unsafe.SliceData(kv), main: rev.Main, sub: uint32(rev.Sub), size: uint32(len(kv)), key: uint32(len(p.Key)), at: uint32(s.count)}
	if tombstone {
		r.sub, r.size = r.sub|tombstoneBit, 0
	}
	of := &s.noted[maphash.Bytes(l.seed, p.Key)%loadParts]
	of.revs, of.keys = append(of.revs, r), append(of.keys, p.Key...)
	s.last = rev
	s.count++
	return nil
}

func outOfOrder(before, rev schema.Revision) error {
	return fmt.Errorf("mvcc: load: revision %d.%d after %d.%d", rev.Main, rev.Sub, before.Main, before.Sub)
}

// Added ends the notes and gives how many parts there are to gather. The error says that the order of stretches is broken.
func (l *Loader) Added() (parts int, err error) {
	total := 0
	var prefix []byte
	for i := range l.stretches {
		s := &l.stretches[i]
		if s.count == 0 {
			continue
		}
		if !l.newest.Less(s.first) {
			return 0, outOfOrder(l.newest, s.first)
		}
		if total == 0 {
			prefix = s.prefix
		}
		prefix = prefix[:shared(text(prefix), text(s.prefix))]
		l.newest, s.base = s.last, total
		total += s.count
	}
	l.prefix, l.superseding = len(prefix), make([]*version, total)
	return loadParts, nil
}

// Gather makes one part of what was noted. It copies what it keeps: the keys, and the newest value of each. Different parts
// may be gathered at the same time.
func (l *Loader) Gather(n int) {
	m := l.maker(n)
	for i := range l.stretches {
		s := &l.stretches[i]
		keys := s.noted[n].keys
		for j := range s.noted[n].revs {
			r := &s.noted[n].revs[j]
			i := m.place(keys[:r.key])
			keys = keys[r.key:]
			v := slab(&m.versions, slabVersions)
			v.main, v.sub, v.size = r.main, r.sub, r.size
			at := s.base + int(r.at)
			if old := m.heads[i].v; old != nil {
				v.prev.Store(old)
				l.superseding[at] = v
			}
			m.heads[i] = head{v, r}
			if v.tombstone() {
				m.deleted = append(m.deleted, numbered{at, grave{v, m.items[i].e, m.items[i].key}})
			}
		}
	}
	for i, h := range m.heads {
		if !h.v.tombstone() {
			kv := unsafe.Slice(h.noted.kv, h.noted.size)
			h.v.kv.Store(unsafe.SliceData(append(make([]byte, 0, rounded(len(kv))), kv...)))
		}
		m.items[i].e.head.Store(h.v)
	}
	for i := range l.stretches {
		l.stretches[i].noted[n] = notes{}
	}
	sortRanked(m.items, l.prefix)
	l.parts[n] = part{m.items, m.deleted}
}

// rounded is the room that a loaded value gets: as much as the allocator gives anyway, at least a byte.
func rounded(n int) int { return max(n+15, 16) &^ 15 }

// maker makes one part.
type maker struct {
	prefix int
	seed   maphash.Seed
	// table finds a key by its hash: the number of its item and one, 0 where a place is free.
	table []uint32
	part
	heads []head // of the items, in their order

	versions []version
	entries  []entry
	keyBytes []byte
}

// head is a key's newest version, and what was noted of it.
type head struct {
	v     *version
	noted *note
}

func (l *Loader) maker(n int) *maker {
	revs := 0
	for i := range l.stretches {
		revs += len(l.stretches[i].noted[n].revs)
	}
	places := 4 // at most half of them will be taken
	for places < 2*revs {
		places *= 2
	}
	return &maker{prefix: l.prefix, seed: l.seed, table: make([]uint32, places)}
}

// place gives the number of key's item, which it makes where there is none yet.
func (m *maker) place(key []byte) int {
	// The hash's lowest bits are the same for the whole part.
	at, mask := maphash.Bytes(m.seed, key)/loadParts, uint64(len(m.table)-1)
	for ; ; at++ {
		switch n := m.table[at&mask]; {
		case n == 0:
			m.add(key)
			m.table[at&mask] = uint32(len(m.items))
			return len(m.items) - 1
		case m.items[n-1].key == text(key):
			return int(n - 1)
		}
	}
}

func (m *maker) add(key []byte) {
	if cap(m.keyBytes)-len(m.keyBytes) < len(key) {
		m.keyBytes = make([]byte, 0, max(slabKeyBytes, len(key)))
	}
	from := len(m.keyBytes)
	m.keyBytes = append(m.keyBytes, key...)
	own := text(m.keyBytes[from:])
	m.items = append(m.items, ranked{headOf(own[m.prefix:]), item{own, slab(&m.entries, slabEntries)}})
	m.heads = append(m.heads, head{})
}

// slab takes one element of a chunk, and starts the next chunk where there is none left.
func slab[T any](chunk *[]T, n int) *T {
	if len(*chunk) == 0 {
		*chunk = make([]T, n)
	}
	p := &(*chunk)[0]
	*chunk = (*chunk)[1:]
	return p
}

// Done makes what was gathered the store's state, published, in place of all before: views of before answer
// ErrCompacted from then on. The revision is the greatest of current, of what was added and of the two
// marks. scheduled and finished are the file's compaction marks, 0 or less where there is none: a scheduled one that is
// not finished counts, and Prune hands out what it has left to delete.
func (l *Loader) Done(current, scheduled, finished int64) {
	s := l.s
	s.tree = newTree()
	s.tree.build(l.items())
	s.rev = max(firstRev, current, l.newest.Main, scheduled, finished)
	s.compact = neverCompacted
	if mark := max(scheduled, finished); mark > 0 {
		s.compact = mark
	}
	s.superseded, s.deleted = l.history()
	s.evicted = s.superseded.tail
	if s.cut != nil {
		s.cut.Store(math.MaxInt64)
	}
	s.cut = new(atomic.Int64)
	s.cut.Store(neverCompacted)
	s.held.clear()
	*l = Loader{}
	s.Publish()
}

// history lists what is superseded and what is deleted, in the order of revisions.
func (l *Loader) history() (superseded fifo[*version], deleted fifo[grave]) {
	for _, v := range l.superseding {
		if v != nil {
			superseded.push(v)
		}
	}
	var graves []numbered
	for i := range l.parts {
		graves = append(graves, l.parts[i].deleted...)
	}
	slices.SortFunc(graves, func(a, b numbered) int { return a.at - b.at })
	for _, g := range graves {
		deleted.push(g.grave)
	}
	return superseded, deleted
}

// items merges the parts' items in the order of keys.
func (l *Loader) items() []item {
	lists := make([][]ranked, 0, loadParts)
	total := 0
	for i := range l.parts {
		lists = append(lists, l.parts[i].items)
		total += len(l.parts[i].items)
	}
	from, to := make([]ranked, 0, total), make([]ranked, 0, total)
	for len(lists) > 1 {
		to = to[:0]
		for i := 0; i < len(lists); i += 2 {
			n := len(to)
			to = mergeRanked(to, lists[i], lists[i+1], l.prefix)
			lists[i/2] = to[n:]
		}
		lists = lists[:len(lists)/2]
		from, to = to, from
	}
	items := make([]item, total)
	for i := range from {
		items[i] = from[i].item
	}
	return items
}
