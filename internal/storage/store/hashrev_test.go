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
		{"pre1", 22, KVHash{4262082877, 22, -1, 22, 4262082877}}, {"pre1", 0, KVHash{4262082877, 22, -1, 22, 4262082877}}, {"pre1", -2, KVHash{1084519789, -2, -1, 22, 1084519789}},
		{"post1", 21, KVHash{3989901284, 21, 19, 22, 3989901284}}, {"pre2", 24, KVHash{2412146549, 24, 19, 28, 2412146549}}, {"post2", 28, KVHash{3740523545, 28, 28, 28, 3740523545}},
		{"post2", 27, KVHash{0, 27, 28, 28, 0}}, {"post2", 99, KVHash{0, 99, 28, 28, 0}},
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
	written := make(chan int64) // the writer is one batch ahead, so that each compaction is seen however slow the hashes are
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
			select {
			case written <- b.Rev:
			case <-t.Context().Done():
				return
			}
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

// Where no key is left and one was deleted at the very revision, a member answers otherwise once it is compacted there: each
// hash names the other as its twin.
func TestHashTwins(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"), Options{Clock: clock.System})
	write := func(rev int64, tombstone bool, compacted int64) {
		t.Helper()
		kv := wire.KeyValue{Key: []byte("k")}
		if !tombstone {
			kv.Create, kv.Mod, kv.Version = rev, rev, 1
		}
		b := &Batch{Index: uint64(rev), Term: 1, Rev: rev}
		b.Put(schema.Key, schema.RevisionKey(schema.Revision{Main: rev}, tombstone), wire.AppendKeyValue(nil, kv))
		if compacted > 0 {
			b.Put(schema.Meta, schema.ScheduledCompactKey, schema.RevisionKey(schema.Revision{Main: compacted}, false))
		}
		s.Append(b)
		if err := s.Sync(t.Context(), b.Index); err != nil {
			t.Fatal(err)
		}
	}
	hashNow := func() KVHash {
		t.Helper()
		h, err := s.HashAt(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	write(2, false, 0)
	write(3, false, 3)
	<-s.Compact(Compaction{Rev: 3, Dead: handOut([]schema.Revision{{Main: 2}})})
	if h := hashNow(); h.Hash != h.Twin {
		t.Errorf("a key is live: %+v", h)
	}
	write(4, true, 0)
	before := hashNow()
	if before.Hash == before.Twin {
		t.Errorf("no key is live: %+v", before)
	}
	write(5, false, 4)
	<-s.Compact(Compaction{Rev: 4, Dead: handOut([]schema.Revision{{Main: 3}, {Main: 4}})})
	if at, ok := s.CompactionHash(4); !ok || at.CompactRev != before.CompactRev || at.Hash != before.Twin || at.Twin != before.Hash {
		t.Errorf("at the compaction %+v, before it %+v", at, before)
	}
}
