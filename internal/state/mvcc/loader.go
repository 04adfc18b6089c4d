package mvcc

import (
	"fmt"
	"math"
	"slices"
	"strings"
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

// Loader fills a store from the file that follows it. Nothing is visible before Done.
type Loader struct {
	s    *Store
	last schema.Revision
	// byKey gives a key's place in items, which are in the order of first revisions; unsorted tells that it is not
	// the order of keys.
	byKey    map[string]uint32
	items    []item
	unsorted bool

	superseded fifo[*version]
	deleted    fifo[grave]

	versions []version
	entries  []entry
	keyBytes []byte
}

// Loader starts loading. Done replaces all that the store held.
func (s *Store) Loader() *Loader {
	return &Loader{s: s, byKey: make(map[string]uint32)}
}

// Add takes the next stored revision, in the order of revisions. It copies what it keeps of kv: the key, and the
// newest value of each key. The error says that the order or kv is broken.
func (l *Loader) Add(rev schema.Revision, tombstone bool, kv []byte) error {
	if !l.last.Less(rev) {
		return fmt.Errorf("mvcc: load: revision %d.%d after %d.%d", rev.Main, rev.Sub, l.last.Main, l.last.Sub)
	}
	l.last = rev
	p, err := wire.ParseKeyValue(kv)
	if err != nil {
		return fmt.Errorf("mvcc: load revision %d.%d: %w", rev.Main, rev.Sub, err)
	}
	i, ok := l.byKey[text(p.Key)]
	if !ok {
		i = l.addKey(p.Key)
	}
	it := l.items[i]
	v := slab(&l.versions, slabVersions)
	var room []byte
	if old := it.e.head.Load(); old != nil {
		room = reclaim(old)
		v.prev.Store(old)
		l.superseded.push(v)
	}
	switch {
	case tombstone:
		v.setTombstone(rev)
	case cap(room) >= len(kv):
		v.set(rev, append(room, kv...))
	default:
		v.set(rev, append(make([]byte, 0, rounded(len(kv))), kv...))
	}
	it.e.head.Store(v)
	if tombstone {
		l.deleted.push(grave{v, it.e, it.key})
	}
	return nil
}

// rounded is the room that a loaded value gets: as much as the allocator gives anyway, at least a byte.
func rounded(n int) int { return max(n+15, 16) &^ 15 }

// reclaim takes the value of a version that was loaded and is superseded; its room serves the next value, which is most
// often as long. Nobody has read it yet.
func reclaim(old *version) []byte {
	p := old.kv.Load()
	if p == nil {
		return nil
	}
	old.kv.Store(nil)
	return unsafe.Slice(p, rounded(int(old.size)))[:0]
}

func (l *Loader) addKey(key []byte) uint32 {
	if cap(l.keyBytes)-len(l.keyBytes) < len(key) {
		l.keyBytes = make([]byte, 0, max(slabKeyBytes, len(key)))
	}
	from := len(l.keyBytes)
	l.keyBytes = append(l.keyBytes, key...)
	it := item{text(l.keyBytes[from:]), slab(&l.entries, slabEntries)}
	if n := len(l.items); n > 0 && l.items[n-1].key > it.key {
		l.unsorted = true
	}
	i := uint32(len(l.items))
	l.items = append(l.items, it)
	l.byKey[it.key] = i
	return i
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

// Done makes what was added the store's state, published, in place of all before: views of before answer
// ErrCompacted from then on. The revision is the greatest of current, of what was added and of the two
// marks. scheduled and finished are the file's compaction marks, 0 or less where there is none: a scheduled one that is
// not finished counts, and Prune hands out what it has left to delete.
func (l *Loader) Done(current, scheduled, finished int64) {
	s := l.s
	if l.unsorted {
		sortItems(l.items)
	}
	s.tree = newTree()
	s.tree.build(l.items)
	s.rev = max(firstRev, current, l.last.Main, scheduled, finished)
	s.compact = neverCompacted
	if mark := max(scheduled, finished); mark > 0 {
		s.compact = mark
	}
	s.superseded, s.deleted, s.evicted = l.superseded, l.deleted, l.superseded.tail
	if s.cut != nil {
		s.cut.Store(math.MaxInt64)
	}
	s.cut = new(atomic.Int64)
	s.cut.Store(neverCompacted)
	s.held.clear()
	*l = Loader{}
	s.Publish()
}

// sortItems sorts by key. Most keys share a prefix: eight bytes after it decide nearly all comparisons, without
// a look at the keys.
func sortItems(items []item) {
	skip := sharedPrefix(items)
	type ranked struct {
		head uint64
		item
	}
	by := make([]ranked, len(items))
	for i, it := range items {
		by[i] = ranked{headOf(it.key[skip:]), it}
	}
	slices.SortFunc(by, func(a, b ranked) int {
		if a.head != b.head {
			if a.head < b.head {
				return -1
			}
			return 1
		}
		return strings.Compare(a.key[skip:], b.key[skip:])
	})
	for i := range by {
		items[i] = by[i].item
	}
}

func sharedPrefix(items []item) int {
	first := items[0].key
	n := len(first)
	for _, it := range items[1:] {
		n = min(n, shared(first, it.key))
	}
	return n
}
