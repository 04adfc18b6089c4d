package raftloop

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/storage/wal"
)

// The memory window of the log. A follower that is a little behind is served from it; an older entry is
// read again from the write-ahead log.
const (
	// windowEntriesMax bounds the window by count: 20,000 entries carry about 3 MB of pointers and
	// headers beside their payload, and cover two default snapshot intervals (10,000 entries each).
	windowEntriesMax = 20_000
	// windowBytesDefault bounds the payload kept: 32 MiB is about two seconds of 1 KiB entries at
	// 16,000 a second, longer than a follower's pause for garbage collection or a reconnect.
	windowBytesDefault = 32 << 20
	// pinAfterReport is how long the log behind a snapshot stays after its transfer was reported: the
	// follower still has to load it before it can ask for the entries that follow.
	pinAfterReport = 30 * time.Second
)

// readError carries a failed read of the write-ahead log through raft, which can only panic with it.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

// termRun says that the entries from index first on have this term, up to the next run.
type termRun struct{ first, term uint64 }

// pin holds the log after index for one follower that is being sent a snapshot; until is zero while the
// transfer runs.
type pin struct {
	index uint64
	until time.Time
}

// Log is raft's view of the stable log: the newest entries in memory, the older ones in the write-ahead
// log, and a table of terms for all of them. It implements raft.Storage. The loop's goroutine reads it
// while the append thread adds to it; mu is held for memory operations only.
type Log struct {
	state   *raftpb.HardState // at start, its commit raised to what the store has applied
	written *raftpb.HardState // at start, as the write-ahead log has it
	conf    *raftpb.ConfState // at start
	applied uint64            // at start: entries up to here are in the store and are never applied again

	wal      WAL
	snapshot func() (*raftpb.Snapshot, error)

	mu         sync.Mutex      // guards all below
	first      uint64          // the oldest readable entry; first-1 has a known term
	last       uint64          // the newest entry, first-1 if there is none
	runs       []termRun       // terms of first-1 .. last, runs[0].first <= first-1
	window     []*raftpb.Entry // window[i] has index last-len(window)+1+i
	ends       []uint64        // ends[i]: bytes of all entries ever kept, up to and with window[i]
	windowSize uint64          // the bound in bytes
	settled    uint64          // raft knows that entries up to here are applied, and won't read them for that
	pins       map[uint64]pin  // by follower
}

var _ raft.Storage = (*Log)(nil)

// NewLog makes the log as it stands at start: hs is the last state in the write-ahead log, cs the
// configuration at applied, mark the snapshot record that the log starts behind, ents all entries after
// it, applied the store's consistent index. A stock member syncs no state that only raises the commit
// index, so the store may be ahead of hs, and of the log; commit is raised accordingly.
func NewLog(hs *raftpb.HardState, cs *raftpb.ConfState, mark wal.Mark, ents []*raftpb.Entry, applied uint64) (*Log, error) {
	l := &Log{
		written: hs, applied: applied, conf: raftpb.EnsureConfState(cs),
		first: mark.Index + 1, last: mark.Index,
		runs: []termRun{{mark.Index, mark.Term}}, windowSize: windowBytesDefault, pins: map[uint64]pin{},
	}
	if applied < mark.Index {
		return nil, fmt.Errorf("raftloop: the store stands at index %d, before the log's start at %d", applied, mark.Index)
	}
	if len(ents) > 0 && ents[0].GetIndex() != mark.Index+1 {
		return nil, fmt.Errorf("raftloop: the log starts at index %d, not behind its snapshot record at %d", ents[0].GetIndex(), mark.Index)
	}
	l.Append(ents)
	commit := max(hs.GetCommit(), mark.Index, min(applied, l.last))
	if commit > l.last {
		return nil, fmt.Errorf("raftloop: commit index %d is past the end of the log at %d", commit, l.last)
	}
	l.settled = l.startIndex()
	l.state = &raftpb.HardState{Term: new(hs.GetTerm()), Vote: new(hs.GetVote()), Commit: new(commit)}
	return l, nil
}

// startIndex is the applied index that raft starts from: it may not pass the end of the log.
func (l *Log) startIndex() uint64 { return min(l.applied, l.last) }

// InitialState gives the state that raft starts from.
func (l *Log) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return l.state, l.conf, nil
}

// FirstIndex is the oldest entry that can be read.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, nil
}

// LastIndex is the newest entry.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, nil
}

// Term gives the term of entry i, first-1 included.
func (l *Log) Term(i uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case i+1 < l.first:
		return 0, raft.ErrCompacted
	case i > l.last:
		return 0, raft.ErrUnavailable
	}
	return l.term(i), nil
}

func (l *Log) term(i uint64) uint64 {
	n := sort.Search(len(l.runs), func(k int) bool { return l.runs[k].first > i })
	return l.runs[n-1].term
}

// Entries gives entries of [lo, hi), at least one, no more than maxSize bytes encoded. Entries that left
// the window are read from the write-ahead log, and such an answer may end where the window begins.
func (l *Log) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	l.mu.Lock()
	if lo < l.first {
		l.mu.Unlock()
		return nil, raft.ErrCompacted
	}
	if hi > l.last+1 {
		l.mu.Unlock()
		return nil, raft.ErrUnavailable
	}
	start := l.windowStart()
	if lo < start {
		l.mu.Unlock()
		return l.reread(lo, min(hi, start), maxSize)
	}
	defer l.mu.Unlock()
	i, j := int(lo-start), int(hi-start)
	before := uint64(0)
	if i > 0 {
		before = l.ends[i-1]
	} else {
		before = l.ends[0] - entrySize(l.window[0])
	}
	if maxSize < l.ends[j-1]-before {
		j = i + max(1, sort.Search(j-i, func(k int) bool { return l.ends[i+k]-before > maxSize }))
	}
	return append([]*raftpb.Entry(nil), l.window[i:j]...), nil
}

func (l *Log) windowStart() uint64 { return l.last + 1 - uint64(len(l.window)) }

// reread reads entries that left the window. Segments are released only below first, so that an error
// means a failing disk or a compaction in between.
func (l *Log) reread(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	ents, err := l.wal.ReadEntries(lo, hi, maxSize)
	if err == nil && len(ents) > 0 && ents[0].GetIndex() == lo {
		return ents, nil
	}
	if first, _ := l.FirstIndex(); lo < first {
		return nil, raft.ErrCompacted
	}
	if err == nil {
		err = errors.New("entries missing")
	}
	return nil, &readError{fmt.Errorf("raftloop: read log entries [%d, %d): %w", lo, hi, err)}
}

// Snapshot gives what a lagging follower is sent. raft asks again later when it can't be had now.
func (l *Log) Snapshot() (*raftpb.Snapshot, error) {
	s, err := l.snapshot()
	if err != nil || raft.IsEmptySnap(s) {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return s, nil
}

// Append adds stable entries. They replace what the log has from the first one's index on.
func (l *Log) Append(ents []*raftpb.Entry) {
	if len(ents) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from := ents[0].GetIndex()
	if from <= l.last {
		l.truncate(from)
	}
	end := uint64(0)
	if n := len(l.ends); n > 0 {
		end = l.ends[n-1]
	}
	for _, e := range ents {
		end += entrySize(e)
		l.window = append(l.window, e)
		l.ends = append(l.ends, end)
		if t := e.GetTerm(); t != l.runs[len(l.runs)-1].term {
			l.runs = append(l.runs, termRun{e.GetIndex(), t})
		}
	}
	l.last += uint64(len(ents))
	l.evict()
}

// truncate drops the entries from index from on.
func (l *Log) truncate(from uint64) {
	keep := 0
	if start := l.windowStart(); from > start {
		keep = int(from - start)
	}
	clear(l.window[keep:])
	l.window, l.ends = l.window[:keep], l.ends[:keep]
	l.last = from - 1
	for n := len(l.runs); n > 1 && l.runs[n-1].first >= from; n-- {
		l.runs = l.runs[:n-1]
	}
}

// evict lets the oldest entries go from memory until the window is within its bounds. A quarter more than
// needed goes, so that the copy it costs is paid once in thousands of entries.
func (l *Log) evict() {
	n := len(l.window)
	if n <= windowEntriesMax && l.ends[n-1]-l.ends[0] <= l.windowSize {
		return
	}
	count := max(0, n-windowEntriesMax*3/4)
	floor := l.ends[n-1] - min(l.ends[n-1], l.windowSize*3/4)
	size := sort.Search(n-1, func(i int) bool { return l.ends[i] >= floor })
	l.drop(min(max(count, size), n-1))
}

// drop forgets the oldest n entries of the window.
func (l *Log) drop(n int) {
	if n <= 0 {
		return
	}
	l.window = append(make([]*raftpb.Entry, 0, len(l.window)-n+len(l.window)/4), l.window[n:]...)
	l.ends = append(make([]uint64, 0, cap(l.window)), l.ends[n:]...)
}

// restart empties the log behind an installed snapshot.
func (l *Log) restart(index, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.last, l.settled = index+1, index, index
	l.runs = []termRun{{index, term}}
	l.window, l.ends = nil, nil
	clear(l.pins)
}

// compact moves the start of the log behind a synced snapshot record at index, keeping catchUp entries
// before it for slow followers as far as memory has them, and everything behind a snapshot in flight.
// It gives the index up to which the log is not needed any more.
func (l *Log) compact(index, catchUp uint64, now time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	to := min(l.settled, max(index-min(index, catchUp), min(index, l.windowStart()-1)))
	for id, p := range l.pins {
		if !p.until.IsZero() && now.After(p.until) {
			delete(l.pins, id)
			continue
		}
		to = min(to, p.index)
	}
	if to < l.first {
		return l.first - 1
	}
	t := l.term(to)
	n := sort.Search(len(l.runs), func(k int) bool { return l.runs[k].first > to })
	l.runs = append([]termRun{{to, t}}, l.runs[n:]...)
	if start := l.windowStart(); to >= start {
		l.drop(int(to - start + 1))
	}
	l.first = to + 1
	return to
}

// settle tells that raft has taken in that entries up to index are applied.
func (l *Log) settle(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = max(l.settled, index)
}

// pin keeps the log behind index until the transfer to follower id is reported.
func (l *Log) pin(id, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pins[id] = pin{index: index}
}

// unpin lets the log behind a reported snapshot go a while after now.
func (l *Log) unpin(id uint64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := l.pins[id]; ok {
		p.until = now.Add(pinAfterReport)
		l.pins[id] = p
	}
}

// entrySize is the length of e in protobuf: what raft counts, without reflection.
func entrySize(e *raftpb.Entry) uint64 {
	n := 0
	if e.Type != nil {
		n += 1 + varintLen(uint64(*e.Type))
	}
	if e.Term != nil {
		n += 1 + varintLen(*e.Term)
	}
	if e.Index != nil {
		n += 1 + varintLen(*e.Index)
	}
	if e.Data != nil {
		n += 1 + varintLen(uint64(len(e.Data))) + len(e.Data)
	}
	return uint64(n)
}

func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
