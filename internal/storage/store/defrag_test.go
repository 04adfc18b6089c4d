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
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"keelson/internal/storage/schema"
)

// boltCheck has bolt itself check the file at path.
func boltCheck(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Error("bolt:", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// shrinkable is a store whose file is nearly all free pages, and its directory.
func shrinkable(t *testing.T, o Options) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path, o)
	fill(t, s, 3000)
	m := s.Committed()
	b := &Batch{Index: m.Index + 1, Term: 1, Rev: m.Rev + 1, Ops: []Op{put(m.Rev+1, 0, "large", strings.Repeat("x", 50_000))}}
	for i := range int64(500) {
		b.Put(schema.Lease, schema.LeaseKey(i), schema.AppendLease(nil, i, 10, 0))
	}
	b.Put(schema.Meta, schema.ScheduledCompactKey, schema.RevisionKey(schema.Revision{Main: m.Rev}, false))
	s.Append(b)
	<-s.Compact(Compaction{Rev: m.Rev, Dead: handOut(deadIn(t, s, m.Rev))})
	return s, path
}

// sums are what a defragmentation must not change.
type sums struct {
	all, keys uint32
	mark      Mark
}

func sumsOf(t *testing.T, s *Store) sums {
	t.Helper()
	all, m, err := s.Hash(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.HashKV(context.Background(), m.Rev, -1)
	if err != nil {
		t.Fatal(err)
	}
	return sums{all, keys, m}
}

func TestDefragment(t *testing.T) {
	s, path := shrinkable(t, Options{})
	before, all, size := sumsOf(t, s), contents(t, s), s.Size()
	if err := s.Defragment(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := sumsOf(t, s); after != before || !maps.Equal(contents(t, s), all) {
		t.Errorf("%+v before, %+v after", before, after)
	}
	if s.Size() > size/2 || s.Size()-s.SizeInUse() > 16<<10 {
		t.Errorf("%d bytes before, %d after, %d of them in use", size, s.Size(), s.SizeInUse())
	}
	if info, err := os.Stat(path); err != nil || info.Size() > size/2 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	if err := s.Defragment(t.Context()); err != nil {
		t.Error("again:", err)
	}
	fill(t, s, 200)
	after := sumsOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	boltCheck(t, path)
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	if again := sumsOf(t, open(t, path, Options{})); again != after {
		t.Errorf("%+v before the restart, %+v after it", after, again)
	}
	if err := s.Defragment(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed store: %v", err)
	}
}

// TestPackShapes packs buckets of all sizes, with entries of all sizes.
func TestPackShapes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			path := filepath.Join(t.TempDir(), "db")
			s := open(t, path, Options{NoSync: true})
			b := &Batch{Index: 1, Term: 1}
			for _, bk := range schema.Buckets() {
				if bk == schema.Key || bk == schema.Meta {
					continue
				}
				for range r.IntN(4) * r.IntN(1<<r.IntN(12)) {
					key := make([]byte, 1+r.IntN(1<<r.IntN(10)))
					for i := range key {
						key[i] = byte(r.IntN(256))
					}
					b.Put(bk, key, bytes.Repeat([]byte("v"), r.IntN(1<<r.IntN(15))))
				}
			}
			s.Append(b)
			if err := s.Sync(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			all := contents(t, s)
			if err := s.Defragment(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(contents(t, s), all) {
				t.Error("the content changed")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			boltCheck(t, path)
		})
	}
}

// TestDefragmentBesideWork runs batches, compactions, snapshots and installations beside defragmentations, and compares
// with a store that has none.
func TestDefragmentBesideWork(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runBesideWork(t, rand.New(rand.NewPCG(seed, 3))) })
	}
}

func runBesideWork(t *testing.T, r *rand.Rand) {
	o := Options{NoSync: true, BatchLimit: 1 + r.IntN(200)}
	s, path := shrinkable(t, o)
	twin, _ := shrinkable(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var runs atomic.Int64
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := s.Defragment(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errReplaced) {
				ended <- err
				return
			}
			runs.Add(1)
		}
		ended <- nil
	}()
	for step := 0; step < 60 || runs.Load() < 5; step++ {
		for _, x := range []*Store{s, twin} {
			work(t, x, rand.New(rand.NewPCG(uint64(step), 4)))
		}
		if a, b := sumsOf(t, s), sumsOf(t, twin); a != b {
			t.Fatalf("step %d: %+v, the twin %+v", step, a, b)
		}
		if r.IntN(15) == 0 {
			installOwn(t, s, filepath.Dir(path))
		}
		select {
		case err := <-ended:
			t.Fatal("defragmentation ended:", err)
		default:
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(contents(t, s), contents(t, twin)) {
		t.Error("the contents differ")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	boltCheck(t, path)
}

// work changes all kinds of content, and sometimes compacts.
func work(t *testing.T, s *Store, r *rand.Rand) {
	t.Helper()
	m := s.Committed()
	for range 1 + r.IntN(60) {
		m.Index, m.Rev = m.Index+1, m.Rev+1
		b := &Batch{Index: m.Index, Term: m.Term, Rev: m.Rev, Ops: []Op{put(m.Rev, 0, fmt.Sprint("key", r.IntN(30)), strings.Repeat("v", r.IntN(500)))}}
		id := r.Int64N(600)
		if r.IntN(2) == 0 {
			b.Delete(schema.Lease, schema.LeaseKey(id))
		} else {
			b.Put(schema.Lease, schema.LeaseKey(id), schema.AppendLease(nil, id, 10+r.Int64N(90), 0))
		}
		s.Append(b)
	}
	if err := s.Sync(t.Context(), m.Index); err != nil {
		t.Fatal(err)
	}
	if r.IntN(4) > 0 {
		return
	}
	rev := m.Rev - r.Int64N(20)
	s.Append(&Batch{Index: m.Index + 1, Term: m.Term, Ops: []Op{{Bucket: schema.Meta, Key: schema.ScheduledCompactKey, Value: schema.RevisionKey(schema.Revision{Main: rev}, false)}}})
	<-s.Compact(Compaction{Rev: rev, Dead: handOut(deadIn(t, s, rev))})
}

// installOwn installs a snapshot of the store's own content.
func installOwn(t *testing.T, s *Store, dir string) {
	t.Helper()
	snap, err := s.Snapshot(t.Context(), s.Committed().Index)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = snap.WriteTo(f)
	if err := errors.Join(err, f.Close(), snap.Close(), s.Install(f.Name())); err != nil {
		t.Fatal(err)
	}
}

// TestDefragmentCrash looks at what a crash leaves at every stage: the old file or the new one, whole.
func TestDefragmentCrash(t *testing.T) {
	t.Parallel()
	var (
		s      *Store
		images []string
		stages int
	)
	dirs := t.TempDir()
	o := Options{BatchInterval: 1 << 40}
	o.AtDefrag = func(stage DefragStage) {
		if stage == DefragCopied { // what is committed meanwhile has to be caught up with
			m := s.Committed()
			s.Append(&Batch{Index: m.Index + 1, Term: 1, Rev: m.Rev + 1, Ops: []Op{put(m.Rev+1, 0, "late", "v")}})
			if err := s.Sync(context.Background(), m.Index+1); err != nil {
				t.Error(err)
			}
		}
		stages++
		dir := filepath.Join(dirs, fmt.Sprint(stage))
		if err := os.CopyFS(dir, os.DirFS(filepath.Dir(s.name))); err != nil {
			t.Error(err)
		}
		images = append(images, dir)
	}
	s, _ = shrinkable(t, o)
	if err := s.Defragment(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := sumsOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if stages != 3 {
		t.Fatalf("%d stages", stages)
	}
	for i, dir := range images {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 2-i/2 {
			t.Errorf("stage %d: %v, %v", i, entries, err)
		}
		left := open(t, filepath.Join(dir, "db"), Options{})
		if got := sumsOf(t, left); got != want {
			t.Errorf("stage %d: the file is at %+v, not %+v", i, got, want)
		}
		if err := left.Defragment(t.Context()); err != nil {
			t.Errorf("stage %d: over a leftover: %v", i, err)
		}
		if got := sumsOf(t, left); got != want {
			t.Errorf("stage %d, defragmented: the file is at %+v, not %+v", i, got, want)
		}
	}
}

// TestDefragmentEnds checks that what ends the store, or replaces its file, ends a defragmentation.
func TestDefragmentEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Store){
		"abandon": func(s *Store) { s.queue.end(ErrClosed) },
		"close":   func(s *Store) { s.queue.close() },
		"install": func(s *Store) { installOwn(t, s, filepath.Dir(s.name)) },
	} {
		t.Run(name, func(t *testing.T) {
			var s *Store
			var path string
			o := Options{NoSync: true, AtDefrag: func(stage DefragStage) {
				if stage == DefragCopied {
					end(s)
				}
			}}
			s, path = shrinkable(t, o)
			want := contents(t, s)
			if err := s.Defragment(t.Context()); err == nil {
				t.Error("it went on")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
				t.Errorf("%q is left", left)
			}
			if !maps.Equal(contents(t, open(t, path, Options{})), want) {
				t.Error("the content changed")
			}
		})
	}
}

// TestDefragmentShared checks that calls which wait for their turn share one run, and that giving up waiting ends none.
func TestDefragmentShared(t *testing.T) {
	t.Parallel()
	copied := 0
	s, _ := shrinkable(t, Options{NoSync: true, AtDefrag: func(stage DefragStage) {
		if stage == DefragCopied {
			copied++
		}
	}})
	if err := s.defrag.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Defragment(gone); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	first, err := s.defrag.ask()
	if err != nil {
		t.Fatal(err)
	}
	if second, _ := s.defrag.ask(); second != first {
		t.Error("two runs wait")
	}
	s.defrag.give()
	<-first.done
	if first.err != nil || copied != 1 {
		t.Errorf("%d copies, %v", copied, first.err)
	}
}

// TestDefragmentNoRoom checks that a copy which cannot be made leaves the store at work.
func TestDefragmentNoRoom(t *testing.T) {
	t.Parallel()
	s, path := shrinkable(t, Options{NoSync: true})
	if err := os.Mkdir(path+defragSuffix, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path+defragSuffix, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Defragment(t.Context()); err == nil {
		t.Error("a copy was made in a directory's place")
	}
	fill(t, s, 10)
	if err := checkRoom(filepath.Dir(path), 1<<60); err == nil && runtime.GOOS == "linux" {
		t.Error("an exbibyte has room")
	}
}
