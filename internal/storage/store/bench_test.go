package store

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
)

// BenchmarkAppend commits batches of one put of 256 bytes, as a busy member does: time and memory a put.
func BenchmarkAppend(b *testing.B) {
	s, err := Open(vfs.OS, filepath.Join(b.TempDir(), "db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	value := strings.Repeat("x", 256)
	b.ReportAllocs()
	start := s.files.cur.db.Stats().TxStats
	b.ResetTimer()
	for i := range b.N {
		rev := int64(i) + 2
		s.Append(&Batch{Index: uint64(i) + 1, Term: 1, Rev: rev, Ops: []Op{put(rev, 0, "key-of-16-bytes!", value)}})
	}
	if err := s.Sync(context.Background(), uint64(b.N)); err != nil {
		b.Fatal(err)
	}
	stats := s.files.cur.db.Stats().TxStats
	written := stats.Sub(&start)
	b.ReportMetric(float64(written.GetPageAlloc())/float64(b.N), "page-bytes/op")
}

// BenchmarkLoadKeys reads a file of a million revisions.
func BenchmarkLoadKeys(b *testing.B) {
	const revs = 1_000_000
	s, err := Open(vfs.OS, filepath.Join(b.TempDir(), "db"), Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	value := strings.Repeat("x", 256)
	for i := range revs {
		rev := int64(i) + 2
		s.Append(&Batch{Index: uint64(i) + 1, Term: 1, Rev: rev, Ops: []Op{put(rev, 0, "key-of-16-bytes!", value)}})
	}
	if err := s.Sync(context.Background(), revs); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		n := 0
		err := s.LoadKeys(func(_ schema.Revision, _ bool, kv []byte) error {
			n += len(kv)
			return nil
		})
		if err != nil || n == 0 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/revs, "ns/revision")
	b.StopTimer()
	path := s.files.cur.path
	s.Close()
	b.StartTimer()
	start := b.Elapsed()
	if err := CheckFile(path, lockWait); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((b.Elapsed()-start).Nanoseconds())/revs, "check-ns/revision")
}
