package snap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"keelson/internal/kit/vfs"
)

// DBPath names the received state file of a snapshot at index.
func DBPath(dir string, index uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x.snap.db", index))
}

// HasDB tells whether a state file was received for a snapshot at index and not adopted yet.
func HasDB(fsys vfs.FS, dir string, index uint64) bool {
	_, err := os.Stat(fsys.OSPath(DBPath(dir, index)))
	return err == nil
}

// ReceiveDB writes all of r to DBPath(dir, index), durable when it returns, and gives its length.
func ReceiveDB(fsys vfs.FS, dir string, index uint64, r io.Reader) (int64, error) {
	name := fsys.OSPath(DBPath(dir, index))
	n, err := receive(name, r)
	if err != nil {
		return n, fmt.Errorf("snap: receive %s: %w", name, err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return n, fmt.Errorf("snap: sync %s: %w", dir, err)
	}
	return n, nil
}

func receive(name string, r io.Reader) (n int64, err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(dir, "tmp*")
	if err != nil {
		return 0, err
	}
	if n, err = io.Copy(f, r); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return n, err
}

// CleanTemp removes what was not finished in dir, and received state files of an index below that of the
// state file, adopted.
func CleanTemp(fsys vfs.FS, dir string, adopted uint64) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("snap: %w", err)
	}
	for _, e := range entries {
		if unfinished(e.Name()) {
			if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("snap: %w", err)
			}
		}
	}
	osDir := fsys.OSPath(dir)
	entries, err = os.ReadDir(osDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("snap: %w", err)
	}
	for _, e := range entries {
		var index uint64
		_, err := fmt.Sscanf(e.Name(), "%016x.snap.db", &index)
		stale := err == nil && e.Name() == filepath.Base(DBPath(dir, index)) && index < adopted
		if stale || unfinished(e.Name()) {
			if err := os.Remove(filepath.Join(osDir, e.Name())); err != nil {
				return fmt.Errorf("snap: %w", err)
			}
		}
	}
	return nil
}

func unfinished(name string) bool {
	return strings.HasPrefix(name, "tmp") || strings.HasPrefix(name, "db.tmp")
}
