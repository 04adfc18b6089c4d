package store

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/test/fixture"
)

// The files in testdata are snapshots of one etcd 3.7.3, taken before and after its compactions at 19 and
// 28 (of which 28 is a tombstone); the hashes are what it answered for them.
type etcdHash struct {
	rev, compactRev int64
	hash            uint32
}

func openEtcds(t *testing.T, name string) *Store {
	t.Helper()
	b := fixture.Gunzip(t, "etcd37-"+name+".db.gz")
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, path, Options{})
}

func open(t *testing.T, path string, o Options) *Store {
	t.Helper()
	s, err := Open(vfs.OS, path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func checkHashes(t *testing.T, s *Store, want []etcdHash) {
	t.Helper()
	for _, w := range want {
		got, err := s.HashKV(context.Background(), w.rev, w.compactRev)
		if err != nil || got != w.hash {
			t.Errorf("HashKV(%d, %d) = %d, %v; etcd says %d", w.rev, w.compactRev, got, err, w.hash)
		}
	}
}

func TestHashKVIsEtcds(t *testing.T) {
	const nothing = 1084519789
	neverCompacted := []etcdHash{
		{math.MinInt64, -1, nothing}, {-2, -1, nothing}, {0, -1, nothing}, {1, -1, 1084519789}, {2, -1, 217970165}, {5, -1, 2183390464}, {13, -1, 3052119066}, {17, -1, 3558000238},
		{18, -1, 4015641920}, {19, -1, 2200723441}, {20, -1, 1825346534}, {21, -1, 1081172938}, {22, -1, 4262082877},
	}
	compacted19 := []etcdHash{{20, 19, 853011030}, {21, 19, 3989901284}, {22, 19, 2395686063}}
	written := append([]etcdHash{
		{23, 19, 3309248133}, {24, 19, 2412146549}, {25, 19, 599216659}, {26, 19, 3346572093}, {27, 19, 1588568924},
		{28, 19, 129701870}}, compacted19...)
	compacted28 := []etcdHash{{math.MinInt64, 28, nothing}, {28, 28, 3740523545}, {29, 28, 4214173184}, {30, 28, 285483010}}

	// A hash with a compact revision is the same before and after the deletes.
	checkHashes(t, openEtcds(t, "pre1"), append(neverCompacted, compacted19...))
	checkHashes(t, openEtcds(t, "post1"), compacted19)
	checkHashes(t, openEtcds(t, "pre2"), written)
	checkHashes(t, openEtcds(t, "post2"), compacted28)
}

func TestHashIsEtcds(t *testing.T) {
	for name, want := range map[string]uint32{"post1": 4120608847, "pre2": 4075135612, "post2": 2583487114} {
		s := openEtcds(t, name)
		got, m, err := s.Hash(context.Background())
		if err != nil || got != want || m != s.Committed() {
			t.Errorf("%s: Hash = %d, %v, %v; etcd says %d", name, got, m, err, want)
		}
	}
}

func TestCompactionHashIsEtcds(t *testing.T) {
	for _, c := range []struct {
		file  string
		want  CompactionHash
		after []etcdHash
	}{
		{"pre1", CompactionHash{2200723441, 19, -1, 2200723441}, []etcdHash{{20, 19, 853011030}, {22, 19, 2395686063}}},
		{"pre2", CompactionHash{129701870, 28, 19, 129701870}, []etcdHash{{28, 28, 3740523545}}},
	} {
		s := openEtcds(t, c.file)
		var b Batch
		b.Index, b.Term = s.Committed().Index+1, s.Committed().Term
		b.Put(schema.Meta, schema.ScheduledCompactKey, schema.RevisionKey(schema.Revision{Main: c.want.Rev}, false))
		s.Append(&b)
		<-s.Compact(Compaction{Rev: c.want.Rev, Dead: handOut(deadIn(t, s, c.want.Rev))})
		if got, ok := s.CompactionHash(c.want.Rev); !ok || got != c.want {
			t.Errorf("%s: hash at compaction %+v, etcd says %+v", c.file, got, c.want)
		}
		checkHashes(t, s, c.after)
		if left := deadIn(t, s, c.want.Rev); len(left) != 0 {
			t.Errorf("%s: %v are still there", c.file, left)
		}
	}
}

// deadIn finds, the plain way, what a compaction at rev makes dead.
func deadIn(t *testing.T, s *Store, rev int64) []schema.Revision {
	t.Helper()
	type change struct {
		rev       schema.Revision
		tombstone bool
	}
	last := make(map[string]change)
	var dead []schema.Revision
	err := s.LoadKeys(func(r schema.Revision, tombstone bool, kv []byte) error {
		if r.Main > rev {
			return nil
		}
		key, err := keyOf(kv)
		if old, ok := last[string(key)]; ok {
			dead = append(dead, old.rev)
		}
		last[string(key)] = change{r, tombstone}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range last {
		if c.tombstone && c.rev.Main < rev {
			dead = append(dead, c.rev)
		}
	}
	return dead
}

// handOut gives dead three at a time.
func handOut(dead []schema.Revision) func(max int) ([]schema.Revision, error) {
	return func(max int) ([]schema.Revision, error) {
		n := min(len(dead), max, 3)
		some := dead[:n]
		dead = dead[n:]
		return some, nil
	}
}
