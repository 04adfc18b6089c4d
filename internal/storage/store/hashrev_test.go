package store

import (
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

func TestHashAtIsEtcds(t *testing.T) {
	for _, c := range []struct {
		file string
		rev  int64
		want KVHash
	}{
		{"pre1", 22, KVHash{4262082877, 22, -1, 22}}, {"pre1", 0, KVHash{4262082877, 22, -1, 22}}, {"pre1", -2, KVHash{1084519789, -2, -1, 22}},
		{"post1", 21, KVHash{3989901284, 21, 19, 22}}, {"pre2", 24, KVHash{2412146549, 24, 19, 28}}, {"post2", 28, KVHash{3740523545, 28, 28, 28}},
		{"post2", 27, KVHash{0, 27, 28, 28}}, {"post2", 99, KVHash{0, 99, 28, 28}},
	} {
		got, err := openEtcds(t, c.file).HashAt(context.Background(), c.rev)
		c.want.Current = got.Current
		if err != nil || got != c.want || got.Holds() != (got.Hash != 0) {
			t.Errorf("%s: HashAt(%d) = %+v, %v; etcd says %+v", c.file, c.rev, got, err, c.want)
		}
	}
}

// change is one revision as the twin knows it.
type change struct {
	key       string
	tombstone bool
	k, v      []byte
}

// plainHash hashes history the plain way; history[i] is revision i+2, and some key is live at rev.
func plainHash(history []change, rev, compactRev int64) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, []byte(schema.Key.String()))
	last := map[string]int64{}
	for i := int64(2); i <= rev; i++ {
		last[history[i-2].key] = i
	}
	for i := int64(2); i <= rev; i++ {
		c := history[i-2]
		if i <= compactRev && (c.tombstone || last[c.key] != i) {
			continue
		}
		sum = crc32.Update(crc32.Update(sum, table, c.k), table, c.v)
	}
	return sum
}

// TestHashAtBesideCompactions hashes again and again, in several pieces each, while keys change and compactions delete: every
// answer is right for the revisions that it names.
func TestHashAtBesideCompactions(t *testing.T) {
	const revs, keys, batch = 40_000, 25_000, 400
	s := open(t, filepath.Join(t.TempDir(), "db"), Options{Clock: clock.System})
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var history []change
	for rev := int64(2); rev < revs+2; rev++ {
		c := change{key: fmt.Sprintf("key-%d", r.IntN(keys)), tombstone: r.IntN(5) == 0}
		c.k = schema.RevisionKey(schema.Revision{Main: rev}, c.tombstone)
		kv := wire.KeyValue{Key: []byte(c.key)}
		if !c.tombstone {
			kv.Create, kv.Mod, kv.Version, kv.Value = rev, rev, 1, fmt.Append(nil, r.Uint64())
		}
		c.v = wire.AppendKeyValue(nil, kv)
		history = append(history, c)
	}
	written := make(chan int64, revs/batch)
	var all sync.WaitGroup
	all.Go(func() {
		defer close(written)
		for from := 0; from < revs; from += batch {
			b := &Batch{Index: uint64(from + 1), Term: 1, Rev: int64(from + batch + 1)}
			for _, c := range history[from : from+batch] {
				b.Put(schema.Key, c.k, c.v)
			}
			compact := from/batch%10 == 9
			if compact {
				b.Put(schema.Meta, schema.ScheduledCompactKey, schema.RevisionKey(schema.Revision{Main: b.Rev - batch/2}, false))
			}
			s.Append(b)
			if err := s.Sync(t.Context(), b.Index); err != nil {
				t.Error(err)
				return
			}
			if compact {
				<-s.Compact(Compaction{Rev: b.Rev - batch/2, Dead: handOut(deadIn(t, s, b.Rev-batch/2))})
			}
			written <- b.Rev
		}
	})
	answers, compactions := 0, map[int64]bool{}
	for range written {
		got, err := s.HashAt(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		answers++
		compactions[got.CompactRev] = true
		if want := plainHash(history, got.Rev, got.CompactRev); got.Hash != want {
			t.Fatalf("seed %d: HashAt = %+v, want %d", seed, got, want)
		}
	}
	all.Wait()
	if answers < 50 || len(compactions) < 5 {
		t.Errorf("%d answers under %d compactions show little", answers, len(compactions))
	}
}
