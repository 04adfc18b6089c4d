package mvcc

import (
	"errors"
	"sync/atomic"
)

var (
	// ErrCompacted is returned when the revision asked for is older than the last compaction. A range at
	// revision 0 answers it where the compaction overtook the view itself: take a new view and try again.
	ErrCompacted = errors.New("mvcc: required revision has been compacted")
	// ErrFutureRev is returned when the revision asked for is newer than the store.
	ErrFutureRev = errors.New("mvcc: required revision is a future revision")
	// ErrMissing is returned when the history lacks a value that should be stored: the file is damaged.
	ErrMissing = errors.New("mvcc: a stored value is missing")
)

// An empty store is at revision 1, so the first write is revision 2; it was never compacted.
const (
	firstRev       = 1
	neverCompacted = -1
)

// Store is the key space. All its methods but View and RetainView are the writer's.
type Store struct {
	history History
	view    atomic.Pointer[View]
	held    retained

	tree    tree
	rev     int64
	compact int64
	txn     Txn
	beside  any

	// superseded holds every version that has a predecessor, in the order of revisions: what evicting and
	// compacting walk. evicted numbers the first whose predecessor's value may still be in memory.
	superseded fifo[*version]
	evicted    int
	// deleted holds every tombstone, in the order of revisions.
	deleted fifo[grave]

	// cut is the newest compact revision that chains were cut for, set before the first cut. A load leaves its
	// views of before with a cut above all revisions, and starts another.
	cut *atomic.Int64

	counts Counts
}

// grave is a tombstone that waits for its compaction.
type grave struct {
	v   *version
	e   *entry
	key string
}

// Options sets the bounds on views that are retained; zero fields take the defaults.
type Options struct {
	// RetainViews is how many views are retained at most; 0: 64.
	RetainViews int
	// RetainBytes bounds the memory that retained views pin; 0: 64 MiB.
	RetainBytes int64
}

// New gives an empty store at revision 1. Values that leave memory are read back from h.
func New(h History, o Options) *Store {
	s := &Store{history: h}
	s.held.limit(o)
	s.Loader().Done(firstRev, 0, 0)
	return s
}

// View gives the newest published state. It takes no lock.
func (s *Store) View() *View { return s.view.Load() }

// Rev is the revision of the last ended transaction, published or not.
func (s *Store) Rev() int64 { return s.rev }

// CompactRev is the revision of the last compaction, -1 where there was none.
func (s *Store) CompactRev() int64 { return s.compact }

// Publish makes all ended transactions visible at once. It must not be called inside a transaction.
func (s *Store) Publish() {
	s.view.Store(&View{
		state: s.at(s.rev),
		live:  s.tree.live, replaced: s.tree.replaced, beside: s.beside,
	})
	s.tree.epoch++
	s.held.trim(s.tree.replaced, s.compact)
}

// SetBeside has x published with every view from the next one on: state that readers must see as of the same moment.
func (s *Store) SetBeside(x any) { s.beside = x }

// at is what a read of the newest tree at rev stands on.
func (s *Store) at(rev int64) state {
	return state{s: s, root: s.tree.root, rev: rev, compact: s.compact, cut: s.cut}
}
