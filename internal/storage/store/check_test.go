package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
)

// smallFile gives the bytes of a state file with a few levels of pages, one value larger than a page, and
// free pages.
func smallFile(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(vfs.OS, path, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range uint64(300) {
		value := strings.Repeat("v", int(i%7)*40)
		if i == 150 {
			value = strings.Repeat("v", 9000)
		}
		b := Batch{Index: i + 1, Term: 1, Rev: int64(i) + 2, Ops: []Op{put(int64(i)+2, 0, fmt.Sprint("key", i%30), value)}}
		b.Put(schema.Lease, schema.LeaseKey(int64(i)), schema.AppendLease(nil, int64(i), 10, 0))
		s.Append(&b)
		if i%100 == 0 {
			if err := s.Sync(context.Background(), i+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	snap, err := s.Snapshot(context.Background(), 300)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	var file bytes.Buffer
	if _, err := snap.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// loadAll opens the file at path and reads all of it, as a member does at start.
func loadAll(path string) error {
	s, err := Open(vfs.OS, path, Options{NoSync: true})
	if err != nil {
		return err
	}
	defer s.Close()
	err = s.LoadKeys(func(_ schema.Revision, _ bool, kv []byte) error {
		_, err := keyOf(kv)
		return err
	})
	if err == nil {
		err = s.Load(&collector{refuse: func(_ schema.Revision, kv []byte) error {
			_, err := keyOf(kv)
			return err
		}})
	}
	for _, b := range schema.Buckets() {
		if err == nil {
			err = s.ForEach(b, func(k, v []byte) error { return nil })
		}
	}
	return err
}

// TestFlippedBytes flips bytes all over the structure of a file: it loads, or says where it is damaged.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	good := smallFile(t)
	path := filepath.Join(t.TempDir(), "db")
	r := rand.New(rand.NewPCG(7, 7))
	refused := 0
	pages := len(good) / os.Getpagesize()
	for i := range 200 {
		bad := bytes.Clone(good)
		// Headers and entries are at the start of a page.
		at := r.IntN(pages)*os.Getpagesize() + r.IntN(200)
		bad[at] ^= 1 << r.IntN(8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		err := loadAll(path)
		if err == nil {
			continue
		}
		corrupt := (*CorruptError)(nil)
		if !errors.As(err, &corrupt) || corrupt.File != path {
			t.Fatalf("flip %d at %d: %v", i, at, err)
		}
		if corrupt.Offset >= 0 {
			refused++
		}
	}
	if refused < 50 {
		t.Errorf("only %d of 200 flips were refused with a place", refused)
	}
}

func TestTruncatedAndForeignFiles(t *testing.T) {
	good := smallFile(t)
	path := filepath.Join(t.TempDir(), "db")
	for name, bad := range map[string][]byte{
		"half":      good[:len(good)/2],
		"one page":  good[:os.Getpagesize()],
		"text":      bytes.Repeat([]byte("not a state file\n"), 4000),
		"few bytes": []byte("x"),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		err := loadAll(path)
		corrupt := (*CorruptError)(nil)
		if !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusedRevisionTellsItsPlace(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"), Options{NoSync: true})
	fill(t, s, 300)
	mine := errors.New("not a key-value")
	refuse := func(rev schema.Revision, _ []byte) error {
		if rev.Main == 7 {
			return mine
		}
		return nil
	}
	for name, err := range map[string]error{
		"LoadKeys": s.LoadKeys(func(rev schema.Revision, _ bool, kv []byte) error { return refuse(rev, kv) }),
		"Load":     s.Load(&collector{refuse: refuse}),
	} {
		corrupt := (*CorruptError)(nil)
		if !errors.As(err, &corrupt) || !errors.Is(err, mine) || corrupt.Offset <= 0 || corrupt.Offset >= s.Size() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCheckPages(f *testing.F) {
	small := smallFile(f)
	page := os.Getpagesize()
	f.Add(small[:8*page], uint32(0), byte(0))
	f.Add(small, uint32(2*page), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint32, mask byte) {
		if len(b) > 0 {
			b = bytes.Clone(b)
			b[int(at)%len(b)] ^= mask
		}
		err := checkPages(bytes.NewReader(b), "db", uint64(page))
		corrupt := (*CorruptError)(nil)
		if err != nil && !errors.As(err, &corrupt) {
			t.Fatal(err)
		}
	})
}
