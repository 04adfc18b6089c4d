package store

import (
	"errors"
	"fmt"
	"os"
	"time"

	"keelson/internal/kit/vfs"
)

// DefragmentFile writes the state file at path, which no member has open, anew without its free pages, and gives its
// sizes before and after. progress, if set, is told after each MiB how many bytes of the file have been dealt with and
// how many there are; free pages are passed over, so the first may jump. ErrInUse where another process has the
// file, *CorruptError where it is damaged; then, as after any other error, the file is as it was.
func DefragmentFile(fs vfs.FS, path string, o Options, progress func(done, total int64)) (before, after int64, err error) {
	if err := o.setDefaults(); err != nil {
		return 0, 0, err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	name := fs.OSPath(path)
	if _, err := os.Stat(name); err != nil { // or bolt would make one
		return 0, 0, fmt.Errorf("store: %w", err)
	}
	if err := CheckFile(name, lockWait); err != nil {
		return 0, 0, err
	}
	f, err := openMapped(name, boltOptions(&o))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.db.Close()) }()
	c := &checker{r: f.handle, path: name, pageSize: uint64(f.db.Info().PageSize)}
	m, err := c.begin()
	if err != nil {
		return 0, 0, err
	}
	before = int64(m.pages * c.pageSize)
	temp := name + defragSuffix
	err = pack(c, m.root, temp, packOptions{noSync: o.NoSync, clock: o.Clock, rest: func(time.Duration) error {
		progress(int64(c.claimed*c.pageSize), before)
		return nil
	}})
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return before, 0, errors.Join(fmt.Errorf("store: defragment %s: %w", name, err), removeIfThere(temp))
	}
	if err := syncDir(fs, path); err != nil {
		return before, 0, err
	}
	progress(before, before)
	info, err := os.Stat(name)
	if err != nil {
		return before, 0, fmt.Errorf("store: %w", err)
	}
	return before, info.Size(), nil
}
