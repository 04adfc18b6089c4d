package store

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"keelson/internal/kit/vfs"
)

func TestDefragmentFile(t *testing.T) {
	s, path := shrinkable(t, Options{NoSync: true})
	want, size := contents(t, s), s.Size()
	if _, _, err := DefragmentFile(vfs.OS, path, Options{}, nil); !errors.Is(err, ErrInUse) {
		t.Error("of a file in use:", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var done, total int64
	before, after, err := DefragmentFile(vfs.OS, path, Options{}, func(d, all int64) {
		if d < done || d > all {
			t.Errorf("%d of %d after %d", d, all, done)
		}
		done, total = d, all
	})
	if err != nil || before != size || after > size/2 || done != total || total != size {
		t.Errorf("%d bytes before (%d), %d after, %d of %d done, %v", before, size, after, done, total, err)
	}
	boltCheck(t, path)
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	if !maps.Equal(contents(t, open(t, path, Options{})), want) {
		t.Error("the content changed")
	}
}

func TestDefragmentFileRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if _, _, err := DefragmentFile(vfs.OS, path, Options{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error("of no file:", err)
	}
	whole := smallFile(t)
	damaged := append([]byte(nil), whole...)
	for i := 3; i*4096 < len(damaged); i += 5 { // most pages are no longer what they were
		copy(damaged[i*4096:], "damage damage damage")
	}
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, _, err := DefragmentFile(vfs.OS, path, Options{}, nil); !errors.As(err, &corrupt) {
		t.Error("of a damaged file:", err)
	}
	if left, err := os.ReadFile(path); err != nil || string(left) != string(damaged) {
		t.Error("a damaged file was changed", err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}
