package raftloop

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/wal"
)

// TestCrashes runs a single voter on the real log and a disk that crashes, some lives long. What was
// applied before a crash, and so acknowledged, is applied after it; snapshot records let the log go.
func TestCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 2))
		disk := vfs.NewMem(seed)
		cs := &raftpb.ConfState{Voters: []uint64{1}}
		o := wal.Options{SegmentBytes: 2048, MaxFiles: 2, Clock: clock.System}
		w, err := wal.Create(disk, "wal", wal.Metadata{NodeID: 1, ClusterID: 1}, o)
		if err != nil {
			t.Fatal(err)
		}
		at := &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))}
		err = w.Append(wal.Batch{Entries: []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(1))}}, State: at})
		if err != nil || w.Sync() != nil {
			t.Fatal(err)
		}
		store := &machine{conf: cs} // what a store has on disk
		var acked []string
		for life := range 12 {
			if disk, err = disk.Crash(rand.New(rand.NewPCG(seed, uint64(life)))), w.Close(); err != nil {
				t.Fatal(err)
			}
			var found *wal.Contents
			if found, w, err = wal.Open(disk, "wal", o); err != nil {
				t.Fatal(err)
			}
			m := &machine{data: store.data, index: store.index, term: store.term, conf: cs}
			log, err := NewLog(found.State, cs, found.Mark, found.Entries, m.index)
			if err != nil {
				t.Fatal(err)
			}
			id := uint64(0)
			l := New(Options{
				ID: 1, ElectionTicks: 10, Tick: testTick, PreVote: true, Clock: clock.System, CatchUpEntries: 1,
				NextID: func() uint64 { id++; return id }, OnFail: func(err error) { t.Error(err) },
			}, log, w, &node{}, m)
			l.Start()
			for i := range 1 + rng.IntN(60) {
				if err := l.Propose(t.Context(), fmt.Appendf(nil, "life %d entry %d", life, i)); err != nil {
					t.Fatal(err)
				}
				if rng.IntN(20) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			synctest.Wait()
			got := m.applied()
			for i, d := range acked {
				if i >= len(got) || got[i] != d {
					t.Fatalf("life %d: acknowledged %q is lost", life, d)
				}
			}
			acked = got
			if rng.IntN(2) == 0 {
				store = &machine{data: got, index: m.index, term: m.term}
				if err := l.MarkSnapshot(wal.Mark{Index: m.index, Term: m.term, ConfState: cs}); err != nil {
					t.Fatal(err)
				}
			}
			if first, _ := log.FirstIndex(); rng.IntN(2) == 0 && first <= m.index {
				if _, err := w.ReadEntries(first, m.index+1, 1<<20); err != nil {
					t.Errorf("life %d: entries from %d: %v", life, first, err)
				}
			}
			l.Stop()
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
