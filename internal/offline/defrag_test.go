package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

func TestDefrag(t *testing.T) {
	dir := restored(t)
	path := statePath(dir)
	// A file of mostly free pages.
	for _, fill := range []bool{true, false} {
		err := store.EditFile(path, 0, 0, func(e *store.Edit) error {
			for i := range 2000 {
				k := fmt.Appendf(nil, "lease %d", i)
				if !fill {
					if err := e.Delete(schema.Lease, k); err != nil {
						return err
					}
				} else if err := e.Put(schema.Lease, k, make([]byte, 1000)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := SnapshotStatus(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	var told []int64
	if err := Defrag(dir, patience, zap.NewNop(), func(done, _ int64) { told = append(told, done) }); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || after.Size() > before.Size()/10 {
		t.Errorf("%d bytes of %d are left, %v", after.Size(), before.Size(), err)
	}
	if got, err := SnapshotStatus(context.Background(), path); err != nil || got.Hash != want.Hash || got.TotalKey != want.TotalKey {
		t.Errorf("%+v, before %+v, %v", got, want, err)
	}
	if len(told) == 0 {
		t.Error("no progress was told")
	}
}

func TestDefragRefused(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	if err := Defrag(none, patience, zap.NewNop(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	dir := restored(t)
	s, err := store.Open(vfs.OS, statePath(dir), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := Defrag(dir, patience, zap.NewNop(), nil); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), dir+" is in use by a running member") {
		t.Errorf("in use: %v", err)
	}
}
