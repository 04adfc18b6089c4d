package mvcc

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// nothing is a History for stores whose old values nobody asks for.
type nothing struct{}

func (nothing) Values(revs []schema.Revision) ([][]byte, error) {
	return make([][]byte, len(revs)), nil
}

func (nothing) Scan(_, _ schema.Revision, _ func(schema.Revision, bool, []byte) bool) error {
	return nil
}

// benchKey gives the i-th of n keys of 16 bytes, in an order that jumps about: n must not be a multiple of the prime.
func benchKey(i, n int) []byte {
	const jump = 611_953
	return fmt.Appendf(nil, "/key/%011d", i*jump%n)
}

func fill(b *testing.B, n, valueBytes int) *Store {
	b.Helper()
	s := New(nothing{}, Options{})
	value := make([]byte, valueBytes)
	for i := range n {
		t := s.Begin()
		t.Put(benchKey(i, n), value, 0)
		t.End()
	}
	s.Publish()
	return s
}

func benchKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = benchKey(i, n)
	}
	return keys
}

// BenchmarkPut overwrites random keys of a million, publishing each 32 puts as under load, and lets old values go.
func BenchmarkPut(b *testing.B) {
	const n = 1_000_000
	s, keys, value := fill(b, n, 64), benchKeys(n), make([]byte, 256)
	r := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		t := s.Begin()
		t.Put(keys[r.IntN(n)], value, 0)
		t.End()
		if i%32 == 0 {
			s.Publish()
			s.Evict(s.Rev(), s.Rev()-1000)
		}
	}
}

// BenchmarkPutNew puts keys that are not there into a million others, in random order.
func BenchmarkPutNew(b *testing.B) {
	for _, batch := range []int{1, 32} {
		b.Run(fmt.Sprintf("publish=%d", batch), func(b *testing.B) {
			s, value := fill(b, 1_000_000, 64), make([]byte, 256)
			r := rand.New(rand.NewPCG(1, 1))
			key := make([]byte, 16)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				copy(key, benchKey(r.IntN(1_000_000), 1_000_000)[:8])
				binary.LittleEndian.PutUint64(key[8:], r.Uint64())
				t := s.Begin()
				t.Put(key, value, 0)
				t.End()
				if i%batch == 0 {
					s.Publish()
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	const n = 1_000_000
	s, keys := fill(b, n, 64), benchKeys(n)
	r := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if res, err := s.View().Range(context.Background(), RangeOptions{Key: keys[r.IntN(n)]}); err != nil || res.Count != 1 {
			b.Fatal(res, err)
		}
	}
}

func benchRange(b *testing.B, n int, o RangeOptions) {
	s := fill(b, n, 256)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if res, err := s.View().Range(context.Background(), o); err != nil || res.Count != int64(n) {
			b.Fatal(res.Count, err)
		}
	}
}

func BenchmarkRange500Of100k(b *testing.B) {
	benchRange(b, 100_000, RangeOptions{Key: []byte{0}, End: []byte{0}, Limit: 500})
}

func BenchmarkRangeKeysOnly500Of100k(b *testing.B) {
	benchRange(b, 100_000, RangeOptions{Key: []byte{0}, End: []byte{0}, Limit: 500, KeysOnly: true})
}

func BenchmarkCountOf1M(b *testing.B) {
	benchRange(b, 1_000_000, RangeOptions{Key: []byte{0}, End: []byte{0}, CountOnly: true})
}

// BenchmarkTxn reads four keys, overwrites two, deletes one and puts it again.
func BenchmarkTxn(b *testing.B) {
	const n = 100_000
	s, keys, value := fill(b, n, 64), benchKeys(n), make([]byte, 256)
	r := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		t := s.Begin()
		for range 4 {
			t.Get(keys[r.IntN(n)])
		}
		t.Put(keys[r.IntN(n)], value, 0)
		t.Put(keys[r.IntN(n)], value, 0)
		again := keys[r.IntN(n)]
		t.DeleteRange(again, nil)
		t.Put(again, value, 0)
		t.End()
		if i%8 == 0 {
			s.Publish()
			s.Evict(s.Rev(), s.Rev()-1000)
		}
	}
}

// records gives 2n encoded revisions: n keys, all written twice.
func records(n int) [][]byte {
	all := make([][]byte, 0, 2*n)
	value := make([]byte, 256)
	for round := range 2 {
		for i := range n {
			kv := wire.KeyValue{
				Key: benchKey(i, n), Value: value, Create: int64(i + 2), Mod: int64(len(all) + 2), Version: int64(round + 1),
			}
			all = append(all, wire.AppendKeyValue(nil, kv))
		}
	}
	return all
}

func loadAll(b *testing.B, s *Store, all [][]byte) {
	revs := make([]stored, len(all))
	for i, kv := range all {
		revs[i] = stored{rev: schema.Revision{Main: int64(i + 2)}, kv: kv}
	}
	if err := loadRecords(s, revs, runtime.GOMAXPROCS(0), 0, 0); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLoad1M loads a million revisions of half a million keys.
func BenchmarkLoad1M(b *testing.B) {
	all := records(500_000)
	b.ResetTimer()
	for range b.N {
		loadAll(b, New(nothing{}, Options{}), all)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(all)), "ns/revision")
}

// BenchmarkMemory reports what a key takes that was written twice, the first value evicted: put by put, and loaded.
func BenchmarkMemory(b *testing.B) {
	const n = 500_000
	b.Run("put", func(b *testing.B) {
		before := heap()
		s, value := New(nothing{}, Options{}), make([]byte, 256)
		for i := range 2 * n {
			t := s.Begin()
			t.Put(benchKey(i%n, n), value, 0)
			t.End()
			s.Publish()
		}
		for s.Evict(s.Rev(), s.Rev()) {
		}
		reportHeap(b, before, n)
		runtime.KeepAlive(s)
	})
	b.Run("load", func(b *testing.B) {
		all := records(n)
		before := heap()
		s := New(nothing{}, Options{})
		loadAll(b, s, all)
		reportHeap(b, before, n)
		runtime.KeepAlive(s)
		runtime.KeepAlive(all)
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func reportHeap(b *testing.B, before uint64, n int) {
	grown := float64(heap() - before)
	b.ReportMetric(grown/float64(n), "B/key")
	b.ReportMetric(grown/(1<<20), "MiB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPrune compacts half a million dead versions away.
func BenchmarkPrune(b *testing.B) {
	all := records(500_000)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		s := New(nothing{}, Options{})
		loadAll(b, s, all)
		if err := s.Compact(s.Rev()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for more := true; more; {
			_, more = s.Prune(s.CompactRev(), 1000)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*500_000), "ns/dead")
}
