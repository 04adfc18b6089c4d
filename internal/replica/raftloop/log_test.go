package raftloop

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/storage/wal"
)

func TestEntrySize(t *testing.T) {
	for _, n := range []uint64{0, 1, 127, 128, 1 << 20, 1 << 35, 1<<63 - 1, 1<<64 - 1} {
		for _, e := range []*raftpb.Entry{
			{}, {Data: []byte{}}, {Term: &n}, {Index: &n, Data: make([]byte, n%200)},
			{Type: raftpb.EntryConfChange.Enum(), Term: &n, Index: &n, Data: make([]byte, n%20000)},
		} {
			if got := entrySize(e); got != uint64(proto.Size(e)) {
				t.Errorf("%d bytes for %v, want %d", got, n, proto.Size(e))
			}
		}
	}
}

// twin is the whole log in one slice.
type twin struct {
	first uint64 // index of ents[0], a dummy with the term before the log
	ents  []*raftpb.Entry
}

func (w *twin) last() uint64 { return w.first + uint64(len(w.ents)) - 1 }

// TestLogModel compares Log, its window a few entries long, with its twin under random appends,
// overwrites, compactions and restarts behind a snapshot.
func TestLogModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &memWAL{first: 1}
	log, err := NewLog(&raftpb.HardState{}, nil, wal.Mark{}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	log.wal, log.windowSize = w, 400
	tw := &twin{ents: []*raftpb.Entry{{}}}
	term := uint64(1)
	for range 3000 {
		switch rng.IntN(10) {
		case 0: // a lower term's tail is replaced
			term++
			modelAppend(rng, log, w, tw, tw.first+1+rng.Uint64N(tw.last()-tw.first+1), term)
		case 1:
			to := tw.first + rng.Uint64N(tw.last()-tw.first+1)
			modelCompact(rng, log, tw, to)
			_ = w.Release(tw.first)
		case 2:
			if rng.IntN(10) == 0 {
				index := tw.last() + rng.Uint64N(5) + 1
				w.ents, w.first = nil, index+1
				log.restart(index, term)
				*tw = twin{index, []*raftpb.Entry{{Term: new(term)}}}
			}
		default:
			modelAppend(rng, log, w, tw, tw.last()+1, term)
		}
		modelCheck(t, rng, log, tw)
	}
}

func modelAppend(rng *rand.Rand, log *Log, w *memWAL, tw *twin, from, term uint64) {
	var ents []*raftpb.Entry
	for i := range 1 + rng.Uint64N(8) {
		ents = append(ents, &raftpb.Entry{Index: new(from + i), Term: new(term), Data: make([]byte, rng.IntN(60))})
	}
	_ = w.Append(wal.Batch{Entries: ents})
	log.Append(ents)
	tw.ents = append(tw.ents[:from-tw.first:from-tw.first], ents...)
}

func modelCompact(rng *rand.Rand, log *Log, tw *twin, to uint64) {
	if rng.IntN(4) == 0 {
		log.pin(7, tw.first) // a snapshot before the log's start is on its way: nothing goes
		log.compact(to, 0, time.Unix(100, 0))
		log.unpin(7, time.Unix(0, 0))
		return
	}
	log.settle(to)
	got := log.compact(to, rng.Uint64N(10), time.Unix(1000, 0))
	if got > tw.first {
		tw.ents = tw.ents[got-tw.first:]
		tw.first = got
	}
}

func modelCheck(t *testing.T, rng *rand.Rand, log *Log, tw *twin) {
	t.Helper()
	first, _ := log.FirstIndex()
	last, _ := log.LastIndex()
	if first != tw.first+1 || last != tw.last() {
		t.Fatalf("log [%d, %d], want [%d, %d]", first, last, tw.first+1, tw.last())
	}
	for i := tw.first; i <= last; i++ {
		if got, err := log.Term(i); err != nil || got != tw.ents[i-tw.first].GetTerm() {
			t.Fatalf("term of %d: %d, %v, want %d", i, got, err, tw.ents[i-tw.first].GetTerm())
		}
	}
	if _, err := log.Term(last + 1); !errors.Is(err, raft.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := log.Entries(tw.first, last+1, 1); !errors.Is(err, raft.ErrCompacted) {
		t.Fatal(err)
	}
	if n := len(log.window); n > 0 && log.ends[n-1]-log.ends[0] > log.windowSize {
		t.Fatalf("window of %d bytes", log.ends[n-1]-log.ends[0])
	}
	if first > last {
		return
	}
	lo := first + rng.Uint64N(last-first+1)
	hi := lo + 1 + rng.Uint64N(last-lo+1)
	size := rng.Uint64N(500)
	got, err := log.Entries(lo, hi, size)
	if err != nil || len(got) == 0 {
		t.Fatalf("entries [%d, %d): %d, %v", lo, hi, len(got), err)
	}
	want := tw.ents[lo-tw.first : hi-tw.first]
	if !slices.Equal(got, want[:len(got)]) {
		t.Fatalf("entries [%d, %d) differ", lo, hi)
	}
	if lo < log.windowStart() {
		return // the write-ahead log has its own idea of a part
	}
	sum := uint64(0)
	for i, e := range want {
		if sum += entrySize(e); i > 0 && sum > size {
			want = want[:i]
			break
		}
	}
	if len(got) != len(want) {
		t.Fatalf("entries [%d, %d) in %d bytes: %d, want %d", lo, hi, size, len(got), len(want))
	}
}
