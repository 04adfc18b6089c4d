package wal

import (
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/vfs"
)

// BenchmarkAppend appends and syncs batches of entries of 300 bytes on a real disk; the NoSync ones show
// the cost of encoding and writing alone.
func BenchmarkAppend(b *testing.B) {
	data := string(make([]byte, 300))
	for _, noSync := range []bool{false, true} {
		for _, size := range []int{1, 64, 1000} {
			b.Run(fmt.Sprintf("entries=%d/nosync=%v", size, noSync), func(b *testing.B) {
				w, err := Create(vfs.OS, filepath.Join(b.TempDir(), "wal"), Metadata{1, 2}, Options{NoSync: noSync, MaxFiles: 2})
				ok(b, err)
				batch := Batch{State: state(1, 1, 1)}
				for range size {
					batch.Entries = append(batch.Entries, entry(0, 1, data))
				}
				next := uint64(0)
				b.SetBytes(int64(size * len(data)))
				b.ReportAllocs()
				for b.Loop() {
					for _, e := range batch.Entries {
						next++
						*e.Index = next
					}

					ok(b, w.Append(batch))
					ok(b, w.Sync())
					ok(b, w.Release(next))
				}
				b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
				ok(b, w.Close())
			})
		}
	}
}

// BenchmarkReadEntries reads 64 entries back.
func BenchmarkReadEntries(b *testing.B) {
	w, err := Create(vfs.OS, filepath.Join(b.TempDir(), "wal"), Metadata{1, 2}, Options{})
	ok(b, err)
	for i := range uint64(10000) {
		ok(b, w.Append(Batch{Entries: []*raftpb.Entry{entry(i+1, 1, string(make([]byte, 300)))}}))
	}
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		lo := 1 + i*64%9000
		if _, err := w.ReadEntries(lo, lo+64, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
	ok(b, w.Close())
}
