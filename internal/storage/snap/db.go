package snap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"keelson/internal/kit/clock"
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

// ReceiveDB writes all of r to DBPath(dir, index), durable when it returns, and tells how long that took.
func ReceiveDB(fsys vfs.FS, dir string, index uint64, r io.Reader, c clock.Clock) (t Times, err error) {
	start := c.Now()
	name := fsys.OSPath(DBPath(dir, index))
	if t.Sync, err = receive(name, r, c); err != nil {
		return t, fmt.Errorf("snap: receive %s: %w", name, err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return t, fmt.Errorf("snap: sync %s: %w", dir, err)
	}
	t.Took = c.Now().Sub(start)
	return t, nil
}

// receive writes r to a file and tells how long its sync took.
func receive(name string, r io.Reader, c clock.Clock) (sync time.Duration, err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(dir, "tmp*")
	if err != nil {
		return 0, err
	}
	if _, err = io.Copy(f, r); err == nil {
		start := c.Now()
		err = f.Sync()
		sync = c.Now().Sub(start)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return sync, err
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
	return remove(fsys, dir, func(name string) bool {
		index, ok := dbIndex(name)
		return ok && index < adopted || unfinished(name)
	})
}

// DropDBs removes the received state files up to an applied index: raft passed their snapshots over, or they came twice.
func DropDBs(fsys vfs.FS, dir string, applied uint64) error {
	return remove(fsys, dir, func(name string) bool {
		index, ok := dbIndex(name)
		return ok && index <= applied
	})
}

// remove removes the files of the real file system that which says yes to.
func remove(fsys vfs.FS, dir string, which func(name string) bool) error {
	osDir := fsys.OSPath(dir)
	entries, err := os.ReadDir(osDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("snap: %w", err)
	}
	for _, e := range entries {
		if which(e.Name()) {
			if err := os.Remove(filepath.Join(osDir, e.Name())); err != nil {
				return fmt.Errorf("snap: %w", err)
			}
		}
	}
	return nil
}

// dbIndex reads the index in the name of a received state file.
func dbIndex(name string) (index uint64, ok bool) {
	_, err := fmt.Sscanf(name, "%016x.snap.db", &index)
	return index, err == nil && name == filepath.Base(DBPath("", index))
}

func unfinished(name string) bool {
	return strings.HasPrefix(name, "tmp") || strings.HasPrefix(name, "db.tmp")
}
