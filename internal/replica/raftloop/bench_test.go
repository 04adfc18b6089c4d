package raftloop

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/wal"
)

// nullWAL takes everything and keeps nothing.
type nullWAL struct{}

func (nullWAL) Append(wal.Batch) error                              { return nil }
func (nullWAL) Sync() error                                         { return nil }
func (nullWAL) ReadEntries(_, _, _ uint64) ([]*raftpb.Entry, error) { return nil, nil }
func (nullWAL) Release(uint64) error                                { return nil }
func (nullWAL) Send([]*raftpb.Message)                              {}
func (nullWAL) Install(*raftpb.Snapshot) error                      { return nil }
func (nullWAL) Snapshot() (*raftpb.Snapshot, error)                 { return nil, nil }

// waker answers proposals: the first two bytes of an entry name its proposer.
type waker struct {
	nullWAL
	slots []chan struct{}
}

func (w *waker) Apply(ents []*raftpb.Entry, _ func(*raftpb.ConfChange) *raftpb.ConfState) error {
	for _, e := range ents {
		if len(e.Data) > 0 {
			w.slots[int(e.Data[0])|int(e.Data[1])<<8] <- struct{}{}
		}
	}
	return nil
}

func benchmarkPropose(b *testing.B, clients int, w WAL) {
	cs := &raftpb.ConfState{Voters: []uint64{1}}
	log, err := NewLog(&raftpb.HardState{Commit: new(uint64(1)), Term: new(uint64(1))}, cs, wal.Mark{Index: 1, Term: 1, ConfState: cs}, nil, 1)
	if err != nil {
		b.Fatal(err)
	}
	m := &waker{}
	for range clients {
		m.slots = append(m.slots, make(chan struct{}, 1))
	}
	var id atomic.Uint64
	l := New(Options{
		ID: 1, ElectionTicks: 10, Tick: 100 * time.Millisecond, PreVote: true, Clock: clock.System,
		NextID: func() uint64 { return id.Add(1) },
	}, log, w, nullWAL{}, m)
	l.Start()
	defer l.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				data := make([]byte, 300)
				data[0], data[1] = byte(i), byte(i>>8)
				if l.Propose(ctx, data) != nil {
					return
				}
				<-m.slots[i]
			}
		})
	}
	wg.Wait()
}

func BenchmarkPropose1(b *testing.B)    { benchmarkPropose(b, 1, nullWAL{}) }
func BenchmarkPropose1000(b *testing.B) { benchmarkPropose(b, 1000, nullWAL{}) }

// The real log on the real disk, synced.
func BenchmarkProposeDisk1000(b *testing.B) {
	w, err := wal.Create(vfs.OS, b.TempDir()+"/wal", wal.Metadata{NodeID: 1, ClusterID: 1}, wal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	if err := w.Append(wal.Batch{Entries: []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(1))}}}); err != nil {
		b.Fatal(err)
	}
	benchmarkPropose(b, 1000, w)
}
