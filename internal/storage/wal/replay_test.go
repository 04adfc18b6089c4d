package wal

import (
	"errors"
	"sync"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/vfs"
)

// A foreign order is a sequence of records that this package does not write, but etcd of some version did.
type foreignOrder struct {
	write       func(e *encoder)
	mark, n     uint64 // what is read: after which mark, how many entries
	term        uint64 // of the first entry
	fails, cuts bool
}

func putMark(e *encoder, i, term uint64) {
	_ = e.mark(Mark{Index: i, Term: term, ConfState: voters(7)})
}

func putEntries(e *encoder, lo, hi, term uint64) {
	for ; lo <= hi; lo++ {
		e.entry(entry(lo, term, "x"))
	}
}

func foreignOrders() map[string]foreignOrder {
	return map[string]foreignOrder{
		"state and entries before an incoming snapshot's mark": {mark: 100, n: 1, term: 2, write: func(e *encoder) {
			putEntries(e, 1, 5, 1)
			e.state(hardState{2, 0, 100})
			putEntries(e, 101, 101, 2)
			putMark(e, 100, 2)
		}},
		"own mark before the state that covers it": {mark: 4, n: 1, term: 1, write: func(e *encoder) {
			putEntries(e, 1, 5, 1)
			putMark(e, 4, 1)
			e.state(hardState{1, 0, 5})
		}},
		"own mark that no state covers": {mark: 0, n: 5, term: 1, write: func(e *encoder) {
			putEntries(e, 1, 5, 1)
			e.state(hardState{1, 0, 3})
			putMark(e, 4, 1)
		}},
		"incoming snapshot replaces stale entries": {mark: 4, n: 1, term: 3, write: func(e *encoder) {
			putEntries(e, 1, 9, 1)
			e.state(hardState{1, 0, 2})
			putMark(e, 4, 3)
			e.state(hardState{3, 0, 4})
			putEntries(e, 5, 5, 3)
		}},
		"incoming snapshot at the end, not confirmed": {mark: 0, n: 3, term: 1, cuts: true, write: func(e *encoder) {
			putEntries(e, 1, 3, 1)
			e.state(hardState{1, 0, 2})
			putMark(e, 50, 3)
			putEntries(e, 51, 52, 3)
		}},
		"incoming snapshot given up, the old log goes on": {mark: 0, n: 5, term: 1, write: func(e *encoder) {
			putEntries(e, 1, 3, 1)
			putMark(e, 50, 3)
			e.state(hardState{3, 7, 3})
			putEntries(e, 4, 5, 3)
			e.state(hardState{3, 7, 5})
		}},
		"vote after an incoming snapshot that was given up": {mark: 0, n: 3, term: 1, write: func(e *encoder) {
			putEntries(e, 1, 3, 1)
			putMark(e, 50, 3)
			e.state(hardState{9, 7, 3})
		}},
		"a hole": {fails: true, write: func(e *encoder) {
			putEntries(e, 1, 3, 1)
			putEntries(e, 5, 6, 1)
			e.state(hardState{1, 0, 6})
		}},
		"more committed than written": {fails: true, write: func(e *encoder) {
			putEntries(e, 1, 3, 1)
			e.state(hardState{1, 0, 4})
		}},
	}
}

func TestForeignOrders(t *testing.T) {
	for what, c := range foreignOrders() {
		t.Run(what, func(t *testing.T) {
			var e encoder
			e.chain()
			e.metadata(Metadata{7, 9})
			ok(t, e.mark(Mark{}))
			c.write(&e)
			got, err := openBytes(t, []string{name{}.String()}, [][]byte{e.buf})
			if c.fails {
				if err == nil {
					t.Fatalf("opened as\n%s", describe(got))
				}
				return
			}
			ok(t, err)
			if got.Mark.Index != c.mark || uint64(len(got.Entries)) != c.n || got.Entries[0].GetIndex() != c.mark+1 ||
				got.Entries[0].GetTerm() != c.term || got.Repaired != c.cuts {
				t.Fatalf("read as (repaired %v)\n%s", got.Repaired, describe(got))
			}
		})
	}
}

// TestReadBeside reads entries while others are appended and segments are released.
func TestReadBeside(t *testing.T) {
	const total = 2000
	w := create(t, newMem(t), Options{SegmentBytes: 8192, MaxFiles: 3})
	var done sync.WaitGroup
	written := make(chan uint64, total)
	for range 2 {
		done.Go(func() {
			for last := range written {
				ents, err := w.ReadEntries(last, last+1, 1<<20)
				if err == nil && (len(ents) != 1 || ents[0].GetIndex() != last) {
					t.Errorf("read %d: %v", last, ents)
				}
			}
		})
	}
	for i := uint64(1); i <= total; i++ {
		ok(t, w.Append(Batch{Entries: []*raftpb.Entry{entry(i, 1, "some bytes of data")}, State: state(1, 1, i)}))
		if i%100 == 0 {
			ok(t, w.Append(Batch{Mark: &Mark{Index: i, Term: 1, ConfState: voters(1)}}))
			ok(t, w.Sync())
			ok(t, w.Release(i))
		}
		written <- i
	}
	close(written)
	done.Wait()
	ok(t, w.Close())
	if n := len(w.index.segments); n > 3 {
		t.Fatalf("%d segments are left", n)
	}
	if _, err := w.ReadEntries(total, total+1, 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
}

// TestReadDamage: an entry that went bad on the disk is never handed out.
func TestReadDamage(t *testing.T) {
	m := newMem(t)
	w := create(t, m, Options{SegmentBytes: 8192})
	ok(t, w.Append(Batch{Entries: []*raftpb.Entry{entry(1, 1, "one"), entry(2, 1, "two")}}))
	_, off, _ := w.index.find(2)
	f := must[vfs.File](t)(m.OpenWrite(w.index.tail().path))
	_, err := f.WriteAt([]byte{'?'}, off+24)
	ok(t, err)
	if ents, err := w.ReadEntries(2, 3, 0); err == nil {
		t.Fatalf("read %v", ents)
	}
	ok(t, w.Close())
}
