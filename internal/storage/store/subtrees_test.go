package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keelson/internal/kit/vfs"
)

// TestDamageInSubtrees damages pages that several goroutines check: each finds its own, and a page that two of them lead to.
func TestDamageInSubtrees(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(vfs.OS, path, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 60_000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(os.Getpagesize())
	check := func(b []byte) error { return checkPages(bytes.NewReader(b), path, size) }
	if err := check(good); err != nil {
		t.Fatal(err)
	}
	var later []subtree
	c := &checker{r: bytes.NewReader(good), path: path, pageSize: size, later: &later}
	m, err := c.begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.tree(m.root, nil, nil, 0); err != nil || len(later) < 500 {
		t.Fatalf("%d subtrees: %v", len(later), err)
	}
	for i := 0; i < len(later); i += len(later) / 20 {
		bad := bytes.Clone(good)
		at := later[i].id * size
		bad[at+8] ^= 0xff // its kind
		corrupt := (*CorruptError)(nil)
		if err := check(bad); !errors.As(err, &corrupt) || corrupt.Offset < int64(at) || corrupt.Offset >= int64(at+size) {
			t.Errorf("subtree %d, page %d: %v", i, later[i].id, err)
		}
	}
	// Two entries of branch pages lead to the first subtree's page: whichever of them is read first, the other one is refused.
	bad := bytes.Clone(good)
	from, to := binary.NativeEndian.AppendUint64(nil, later[len(later)-1].id), binary.NativeEndian.AppendUint64(nil, later[0].id)
	found := false
	for at := 2 * size; at < uint64(len(bad)); at += size {
		if binary.NativeEndian.Uint16(bad[at+8:]) != flagBranch || binary.NativeEndian.Uint64(bad[at:])*size != at {
			continue
		}
		for i := range uint64(binary.NativeEndian.Uint16(bad[at+10:])) {
			if page := bad[at+pageHeader+i*elementSize+8:][:8]; bytes.Equal(page, from) {
				copy(page, to)
				found = true
			}
		}
	}
	if err := check(bad); !found || err == nil || !strings.Contains(err.Error(), "twice") && !strings.Contains(err.Error(), "out of order") {
		t.Errorf("a page in two subtrees (made: %t): %v", found, err)
	}
}
