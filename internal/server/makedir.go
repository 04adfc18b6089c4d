package server

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"keelson/internal/kit/vfs"
)

// dirPerm is for directories: a member's files are its owner's alone.
const dirPerm fs.FileMode = 0o700

// makeDirs makes the directories of a new member, and makes their names durable, from the data directory's own name and
// what is missing above it downwards: a log is only as safe as the way to it. Those that are there already may be from
// a start that lost power halfway, so they are synced too.
func makeDirs(fsys vfs.FS, d dirs) error {
	var sync []string
	for dir := filepath.Clean(d.data); ; dir = filepath.Dir(dir) {
		sync = append(sync, filepath.Dir(dir))
		if _, err := fsys.Stat(filepath.Dir(dir)); err == nil || dir == filepath.Dir(dir) {
			break
		}
	}
	sync = append(sync, d.data, d.member, filepath.Dir(d.wal))
	for _, dir := range []string{d.snap, filepath.Dir(d.wal)} {
		if err := fsys.MkdirAll(dir, dirPerm); err != nil {
			return fmt.Errorf("cannot access data directory: %w", err)
		}
	}
	for _, dir := range sync {
		// Who may write to a directory and not read it can't sync it either.
		if err := fsys.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("cannot access data directory: %w", err)
		}
	}
	return nil
}
