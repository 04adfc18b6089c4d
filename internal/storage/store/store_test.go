package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"keelson/internal/kit/vfs"
	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

func put(rev, sub int64, key, value string) Op {
	kv := wire.AppendKeyValue(nil, wire.KeyValue{Key: []byte(key), Value: []byte(value), Create: rev, Mod: rev, Version: 1})
	return Op{Bucket: schema.Key, Key: schema.RevisionKey(schema.Revision{Main: rev, Sub: sub}, false), Value: kv}
}

func del(rev, sub int64, key string) Op {
	kv := wire.AppendKeyValue(nil, wire.KeyValue{Key: []byte(key)})
	return Op{Bucket: schema.Key, Key: schema.RevisionKey(schema.Revision{Main: rev, Sub: sub}, true), Value: kv}
}

func contents(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, b := range schema.Buckets() {
		err := s.ForEach(b, func(k, v []byte) error {
			all[b.String()+"/"+string(k)] = string(v)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestModel runs random batches, syncs, restarts and kills against a map. After a kill the file must hold
// exactly what the batches up to its mark have made.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func runModel(t *testing.T, r *rand.Rand) {
	path := filepath.Join(t.TempDir(), "db")
	o := Options{BatchInterval: time.Millisecond, BatchLimit: 1 + r.IntN(50), PendingBytesMax: 20_000, NoSync: true}
	if r.IntN(2) == 0 {
		o.FreelistType = FreelistArray
	}
	s := open(t, path, o)
	twins := []map[string]string{{}} // by index
	ctx := context.Background()
	for range 300 {
		switch n := r.IntN(30); {
		case n < 25:
			s.Append(randomBatch(r, &twins))
		case n < 28:
			index := uint64(r.IntN(len(twins)))
			if err := s.Sync(ctx, index); err != nil || s.Committed().Index < index {
				t.Fatalf("Sync(%d): %v, committed %v", index, err, s.Committed())
			}
		case n == 28:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, path, o)
			if got := s.Committed().Index; got != uint64(len(twins)-1) {
				t.Fatalf("after Close the file is at %d of %d", got, len(twins)-1)
			}
		default:
			s.Abandon()
			s = open(t, path, o)
			twins = twins[:s.Committed().Index+1]
		}
		if m := s.Committed(); n20(r) && s.Sync(ctx, uint64(len(twins)-1)) == nil {
			if got, want := contents(t, s), twins[len(twins)-1]; !maps.Equal(got, want) {
				t.Fatalf("at %v: got %d keys, want %d", m, len(got), len(want))
			}
		}
	}
	if s.Pending() < 0 || s.OpenReadTxns() != 0 {
		t.Errorf("pending %d, open read transactions %d", s.Pending(), s.OpenReadTxns())
	}
}

func n20(r *rand.Rand) bool { return r.IntN(20) == 0 }

func randomBatch(r *rand.Rand, twins *[]map[string]string) *Batch {
	index := uint64(len(*twins))
	twin := maps.Clone((*twins)[index-1])
	b := &Batch{Index: index, Term: 1 + index/50}
	buckets := schema.Buckets()
	for range r.IntN(6) {
		bk := buckets[2+r.IntN(len(buckets)-2)]
		key := fmt.Sprint("k", r.IntN(40))
		if r.IntN(3) == 0 {
			b.Delete(bk, []byte(key))
			delete(twin, bk.String()+"/"+key)
			continue
		}
		value := bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(3000))
		b.Put(bk, []byte(key), value)
		twin[bk.String()+"/"+key] = string(value)
	}
	rev := int64(index) + 1
	op := put(rev, 0, fmt.Sprint("key", r.IntN(20)), "value")
	b.Rev, b.Ops = rev, append(b.Ops, op)
	twin["key/"+string(op.Key)] = string(op.Value)
	twin["meta/consistent_index"] = string(schema.PutUint64(index))
	twin["meta/term"] = string(schema.PutUint64(b.Term))
	*twins = append(*twins, twin)
	return b
}

// fill appends n batches of one put each, to ten keys in turn, and syncs.
func fill(t *testing.T, s *Store, n int) {
	t.Helper()
	m := s.Committed()
	for i := range n {
		rev := m.Rev + int64(i) + 1
		if m.Rev == 0 {
			rev++ // the first revision is 2
		}
		s.Append(&Batch{Index: m.Index + uint64(i) + 1, Term: 1, Rev: rev, Ops: []Op{put(rev, 0, fmt.Sprint("key", rev%10), fmt.Sprint("v", rev))}})
	}
	if err := s.Sync(context.Background(), m.Index+uint64(n)); err != nil {
		t.Fatal(err)
	}
}

func TestValuesAndScan(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"), Options{NoSync: true})
	fill(t, s, 3000)
	s.Append(&Batch{Index: 3001, Term: 1, Rev: 3002, Ops: []Op{put(3002, 0, "a", "b"), del(3002, 1, "key1"), del(3002, 2, "key2")}})
	if err := s.Sync(context.Background(), 3001); err != nil {
		t.Fatal(err)
	}
	values, err := s.Values([]schema.Revision{{Main: 3002, Sub: 1}, {Main: 9999}, {Main: 5}, {Main: 3002, Sub: 3}})
	if err != nil || !bytes.Equal(values[0], del(0, 0, "key1").Value) || values[1] != nil || !bytes.Equal(values[2], put(5, 0, "key5", "v5").Value) || values[3] != nil {
		t.Fatalf("Values = %q, %v", values, err)
	}
	var seen []schema.Revision
	err = s.Scan(schema.Revision{Main: 100}, schema.Revision{Main: 3002, Sub: 2}, func(rev schema.Revision, tombstone bool, kv []byte) bool {
		if tombstone != (rev == schema.Revision{Main: 3002, Sub: 1}) || len(kv) == 0 {
			t.Fatalf("%v: tombstone %v, %q", rev, tombstone, kv)
		}
		seen = append(seen, rev)
		return true
	})
	if err != nil || len(seen) != 2904 || seen[0].Main != 100 || seen[2903] != (schema.Revision{Main: 3002, Sub: 1}) {
		t.Fatalf("Scan gave %d revisions, %v", len(seen), err)
	}
	n := 0
	if err := s.Scan(schema.Revision{}, schema.Revision{Main: 5000}, func(schema.Revision, bool, []byte) bool { n++; return n < 7 }); err != nil || n != 7 {
		t.Fatalf("Scan went on for %d, %v", n, err)
	}
}

func TestCompactInPiecesAndAfterRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path, Options{NoSync: true})
	fill(t, s, 5000)
	const rev = 4800
	s.Append(&Batch{Index: 5001, Term: 1, Ops: []Op{{Bucket: schema.Meta, Key: schema.ScheduledCompactKey, Value: schema.RevisionKey(schema.Revision{Main: rev}, false)}}})
	dead := deadIn(t, s, rev)
	part := dead[:2500]
	// The first life ends in the middle.
	s.Compact(Compaction{Rev: rev, Dead: func(int) ([]schema.Revision, error) {
		some := part
		if part = nil; some == nil {
			s.queue.end(ErrClosed)
		}
		return some, nil
	}})
	if err := s.queue.wait(context.Background(), 0, func() bool { return s.queue.err != nil }); err != nil {
		t.Log("first life ended:", err)
	}
	s.Abandon()

	s = open(t, path, Options{NoSync: true})
	before, err := s.HashKV(context.Background(), 5001, rev)
	if err != nil {
		t.Fatal(err)
	}
	<-s.Compact(Compaction{Rev: rev, Dead: handOut(deadIn(t, s, rev))})
	after, err := s.HashKV(context.Background(), 5001, rev)
	if err != nil || after != before {
		t.Errorf("HashKV %d before, %d after, %v", before, after, err)
	}
	if left := deadIn(t, s, rev); len(left) != 0 {
		t.Errorf("%d dead revisions are left", len(left))
	}
	if v, err := s.Get(schema.Meta, schema.FinishedCompactKey); err != nil || !bytes.Equal(v, schema.RevisionKey(schema.Revision{Main: rev}, false)) {
		t.Errorf("finishedCompactRev %x, %v", v, err)
	}
	if h := s.CompactionHashes(); len(h) != 0 {
		t.Errorf("a resumed compaction left a hash: %v", h)
	}
}

func TestSnapshotAndInstall(t *testing.T) {
	dir := t.TempDir()
	from := open(t, filepath.Join(dir, "from", "db"), Options{NoSync: true})
	fill(t, from, 500)
	snap, err := from.Snapshot(context.Background(), 500)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, from, 10)
	want, _, err := from.Hash(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	received := filepath.Join(dir, "to", "x.snap.db")
	to := open(t, filepath.Join(dir, "to", "db"), Options{NoSync: true})
	fill(t, to, 5)
	old, err := to.Snapshot(context.Background(), 5)
	if err != nil {
		t.Fatal(err)
	}
	write := func(s *Snapshot, path string) {
		t.Helper()
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.WriteTo(f); err != nil || n != s.Size() {
			t.Fatalf("WriteTo = %d of %d, %v", n, s.Size(), err)
		}
		if err := errors.Join(f.Close(), s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write(snap, received)
	to.Append(&Batch{Index: 7, Term: 1, Rev: 9, Ops: []Op{put(9, 0, "dropped", "x")}})
	if err := to.Install(received); err != nil {
		t.Fatal(err)
	}
	if got := to.Committed(); got.Index != 500 || got != snap.Mark {
		t.Fatalf("installed at %v, snapshot is at %v", got, snap.Mark)
	}
	fill(t, to, 10)
	if got, _, err := to.Hash(context.Background()); err != nil || got != want {
		t.Errorf("hash %d, %v; want %d", got, err, want)
	}
	// The snapshot of the replaced file still reads that file.
	if v, err := old.Get(schema.Meta, schema.ConsistentIndexKey); err != nil || !bytes.Equal(v, schema.PutUint64(5)) {
		t.Errorf("consistent_index in the old snapshot: %x, %v", v, err)
	}
	n := 0
	if err := old.ForEach(schema.Key, func(_, _ []byte) error { n++; return nil }); err != nil || n != 5 {
		t.Errorf("%d keys in the old snapshot, %v", n, err)
	}
	write(old, filepath.Join(dir, "old.db"))
	again := open(t, filepath.Join(dir, "old.db"), Options{})
	if again.Committed().Index != 5 {
		t.Errorf("the old snapshot is at %v", again.Committed())
	}
}

// TestCompactionOfThePast checks that a compaction does not take back the mark of a later one, which an installed
// snapshot may bring while memory still works on the earlier.
func TestCompactionOfThePast(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"), Options{})
	fill(t, s, 10)
	for _, rev := range []int64{8, 5} {
		<-s.Compact(Compaction{Rev: rev, Dead: handOut(nil)})
	}
	v, err := s.Get(schema.Meta, schema.FinishedCompactKey)
	if err != nil {
		t.Fatal(err)
	}
	if rev, _, err := schema.ParseRevisionKey(v); err != nil || rev.Main != 8 {
		t.Errorf("finished at %v (%v), not at 8", rev, err)
	}
}

func TestSnapshotEndsWithItsContext(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"), Options{NoSync: true})
	fill(t, s, 10)
	ctx, cancel := context.WithCancel(context.Background())
	snap, err := s.Snapshot(ctx, 10)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := snap.WriteTo(&bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteTo: %v", err)
	}
	snap.Close()
	if err := s.Sync(ctx, 11); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync: %v", err)
	}
	if s.OpenReadTxns() != 0 {
		t.Errorf("%d read transactions are open", s.OpenReadTxns())
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	open(t, path, Options{})
	if _, err := Open(vfs.OS, path, Options{}); !errors.Is(err, ErrInUse) {
		t.Fatalf("second Open: %v", err)
	}
}

func TestNewFileHasEveryBucket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snap", "db")
	s := open(t, path, Options{})
	if err := s.PutLocal(Op{Bucket: schema.Meta, Key: schema.StorageVersionKey, Value: []byte("3.7.0")}); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, s); len(got) != 1 || got["meta/storageVersion"] != "3.7.0" {
		t.Errorf("new file holds %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file mode %v, %v", info.Mode(), err)
	}
	if s.Size() == 0 || s.SizeInUse() > s.Size() {
		t.Errorf("size %d, in use %d", s.Size(), s.SizeInUse())
	}
}

// TestFailedCommitEndsTheStore has bolt refuse to grow the file, as a full disk would.
func TestFailedCommitEndsTheStore(t *testing.T) {
	t.Parallel()
	var failures atomic.Int32
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path, Options{NoSync: true, OnFail: func(error) { failures.Add(1) }})
	fill(t, s, 10)
	s.files.cur.db.MaxSize = 1
	big := bytes.Repeat([]byte("x"), 17<<20)
	s.Append(&Batch{Index: 11, Term: 1, Rev: 12, Ops: []Op{put(12, 0, "k", string(big))}})
	err := s.Sync(context.Background(), 11)
	if err == nil {
		t.Fatal("Sync came back without an error")
	}
	s.Append(&Batch{Index: 12, Term: 1})
	if again := s.Sync(context.Background(), 12); again == nil || again.Error() != err.Error() {
		t.Errorf("then Sync says %v, before %v", again, err)
	}
	if err := s.PutLocal(Op{Bucket: schema.Meta, Key: []byte("k")}); err == nil {
		t.Error("PutLocal came back without an error")
	}
	<-s.Compact(Compaction{Rev: 5, Dead: handOut(nil)})
	if err := s.Close(); err == nil {
		t.Error("Close came back without the error")
	}
	if failures.Load() != 1 {
		t.Errorf("OnFail was called %d times", failures.Load())
	}
	if s = open(t, path, Options{}); s.Committed().Index != 10 {
		t.Errorf("reopened at %v", s.Committed())
	}
}

func TestAppendWaitsForRoom(t *testing.T) {
	release := make(chan struct{})
	var s *Store
	s = open(t, filepath.Join(t.TempDir(), "db"), Options{
		NoSync: true, PendingBytesMax: 10_000,
		BeforeCommit: func() { <-release },
		OnCommit: func(CommitTimes) {
			if s.Committed().Index == 6 && s.Pending() > 0 {
				t.Error("the mark says that all is durable while some of it counts as pending: Sync would come back too early")
			}
		},
	})
	value := string(bytes.Repeat([]byte("x"), 3000))
	appended := make(chan int)
	go func() {
		for i := range 6 {
			rev := int64(i) + 2
			s.Append(&Batch{Index: uint64(i) + 1, Term: 1, Rev: rev, Ops: []Op{put(rev, 0, "k", value)}})
			appended <- i
		}
	}()
	for range 3 {
		<-appended
	}
	if p := s.Pending(); p < 9000 || p > 10_000 {
		t.Errorf("%d bytes pending", p)
	}
	close(release)
	for range 3 {
		<-appended
	}
	if err := s.Sync(context.Background(), 6); err != nil || s.Pending() != 0 {
		t.Errorf("Sync: %v, pending %d", err, s.Pending())
	}
}

// TestCloseNotesFree checks that an orderly end spares the next start the search for free pages, and that a kill does not
// leave a list that is no longer true.
func TestCloseNotesFree(t *testing.T) {
	s, path := shrinkable(t, Options{NoSync: true})
	want, inUse := contents(t, s), s.SizeInUse()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if m := metaOf(t, path); m.freelist == noFreelist {
		t.Error("no list was written")
	}
	boltCheck(t, path)
	s = open(t, path, Options{NoSync: true})
	if got := s.SizeInUse(); got > inUse+64<<10 || got < inUse-64<<10 {
		t.Errorf("%d bytes in use before, %d after", inUse, got)
	}
	if !maps.Equal(contents(t, s), want) {
		t.Error("the content changed")
	}
	fill(t, s, 10)
	s.Abandon()
	if m := metaOf(t, path); m.freelist != noFreelist {
		t.Error("a commit left the list of before")
	}
	boltCheck(t, path)
}

func metaOf(t *testing.T, path string) meta {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := (&checker{r: f, path: path, pageSize: uint64(os.Getpagesize())}).newestMeta()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The process before may have been killed between giving the file its name and syncing the directory: whoever opens the file
// does it, before anything is written that must last.
func TestOpenSyncsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	for life := range 2 {
		synced := 0
		fs := vfs.Inject(vfs.OS, nil, func(op vfs.Op) {
			if op.Kind == vfs.KindSyncDir && op.Path == filepath.Dir(path) {
				synced++
			}
		})
		s, err := Open(fs, path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if synced == 0 {
			t.Errorf("life %d: the name is not synced", life)
		}
		s.Close()
	}
}
