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

// mortal is a single voter on the real log and a disk that crashes.
type mortal struct {
	seed  uint64
	rng   *rand.Rand
	disk  *vfs.Mem
	w     *wal.Writer
	conf  *raftpb.ConfState
	store *machine // what a store has on disk
	acked []string
}

// TestCrashes runs a single voter on the real log and a disk that crashes, some lives long. What was
// applied before a crash, and so acknowledged, is applied after it; snapshot records let the log go.
func TestCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		v := &mortal{
			seed: seed, rng: rand.New(rand.NewPCG(seed, 2)), disk: vfs.NewMem(seed),
			conf: &raftpb.ConfState{Voters: []uint64{1}},
		}
		v.store = &machine{conf: v.conf}
		v.create(t)
		for life := range 12 {
			v.live(t, life)
		}
		if err := v.w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func (v *mortal) options() wal.Options {
	return wal.Options{SegmentBytes: 2048, MaxFiles: 2, Clock: clock.System}
}

func (v *mortal) create(t *testing.T) {
	var err error
	if v.w, err = wal.Create(v.disk, "wal", wal.Metadata{NodeID: 1, ClusterID: 1}, v.options()); err != nil {
		t.Fatal(err)
	}
	at := &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))}
	err = v.w.Append(wal.Batch{Entries: []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(1))}}, State: at})
	if err != nil || v.w.Sync() != nil {
		t.Fatal(err)
	}
}

// live crashes the disk, starts on what is left and proposes.
func (v *mortal) live(t *testing.T, life int) {
	var err error
	if v.disk, err = v.disk.Crash(rand.New(rand.NewPCG(v.seed, uint64(life)))), v.w.Close(); err != nil {
		t.Fatal(err)
	}
	var found *wal.Contents
	if found, v.w, err = wal.Open(v.disk, "wal", v.options()); err != nil {
		t.Fatal(err)
	}
	m := &machine{data: v.store.data, index: v.store.index, term: v.store.term, conf: v.conf}
	log, err := NewLog(found.State, v.conf, found.Mark, found.Entries, m.index)
	if err != nil {
		t.Fatal(err)
	}
	id := uint64(0)
	l := New(Options{
		ID: 1, ElectionTicks: 10, Tick: testTick, PreVote: true, Clock: clock.System, CatchUpEntries: 1,
		NextID: func() uint64 { id++; return id }, OnFail: func(err error) { t.Error(err) },
	}, log, v.w, &node{}, m)
	l.Start()
	defer l.Stop()
	for i := range 1 + v.rng.IntN(60) {
		if err := l.Propose(t.Context(), fmt.Appendf(nil, "life %d entry %d", life, i)); err != nil {
			t.Fatal(err)
		}
		if v.rng.IntN(20) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	synctest.Wait()
	v.look(t, life, l, log, m)
}

// look compares what is applied with what was acknowledged, and lets the log go now and then.
func (v *mortal) look(t *testing.T, life int, l *Loop, log *Log, m *machine) {
	got := m.applied()
	for i, d := range v.acked {
		if i >= len(got) || got[i] != d {
			t.Fatalf("life %d: acknowledged %q is lost", life, d)
		}
	}
	v.acked = got
	if v.rng.IntN(2) == 0 {
		v.store = &machine{data: got, index: m.index, term: m.term}
		if err := l.MarkSnapshot(wal.Mark{Index: m.index, Term: m.term, ConfState: v.conf}); err != nil {
			t.Fatal(err)
		}
	}
	if first, _ := log.FirstIndex(); v.rng.IntN(2) == 0 && first <= m.index {
		if _, err := v.w.ReadEntries(first, m.index+1, 1<<20); err != nil {
			t.Errorf("life %d: entries from %d: %v", life, first, err)
		}
	}
}
