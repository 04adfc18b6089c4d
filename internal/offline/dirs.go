package offline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keelson/internal/kit/vfs"
)

// place is a directory that is made under one name and gets its own when it is whole.
type place struct {
	staged, last string
	moved        bool
}

// dirs are the directories of a restored member. Only DataDir itself, if it was there, is older than a restore.
type dirs struct {
	fs     vfs.FS
	data   string
	member place
	wal    place
	// made are the directories that build has made and must remove where it fails, parents first.
	made []string
}

// newDirs checks that nothing is in the way. It writes nothing.
func newDirs(fsys vfs.FS, data, walDir string) (*dirs, error) {
	d := &dirs{fs: fsys, data: filepath.Clean(data)}
	d.member.last = filepath.Join(d.data, "member")
	d.member.staged = d.member.last + stagedSuffix
	list, err := os.ReadDir(d.data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("data-dir %q not empty or could not be read: %w", data, err)
	case slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() == filepath.Base(d.member.staged) }):
		return nil, fmt.Errorf("data-dir %q not empty or could not be read: %s was left by a restore or backup that is under way or was killed; "+
			"see that none runs, remove it and try again", data, d.member.staged)
	case len(list) > 0:
		return nil, fmt.Errorf("data-dir %q not empty or could not be read: nothing is overwritten; name a directory that does not exist", data)
	}
	return d, d.placeWAL(walDir)
}

// placeWAL says where the log goes: into the member's directory, with which it is renamed, or beside its own place.
func (d *dirs) placeWAL(dir string) error {
	if dir == "" {
		dir = filepath.Join(d.member.last, "wal")
	}
	dir = filepath.Clean(dir)
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("wal-dir %q exists: nothing is overwritten; name a directory that does not exist", dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("wal-dir %q: %w", dir, err)
	}
	d.wal = place{staged: dir + stagedSuffix, last: dir}
	if inside, ok := strings.CutPrefix(dir, d.member.last+string(filepath.Separator)); ok {
		d.wal = place{staged: filepath.Join(d.member.staged, inside), last: dir}
		return nil
	}
	if _, err := os.Lstat(d.wal.staged); err == nil {
		return fmt.Errorf("%s was left by a restore or backup that is under way or was killed: see that none runs, remove it and try again", d.wal.staged)
	}
	return nil
}

// apart tells whether the log lies outside of the member's directory.
func (d *dirs) apart() bool { return d.wal.staged == d.wal.last+stagedSuffix }

// build makes the directories, has them filled under their passing names, and gives them their own. A crash leaves
// nothing under those; an error leaves nothing at all.
func (d *dirs) build(fill func() error) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.undo())
		}
	}()
	if err := errors.Join(d.above(d.data), d.mkdir(d.member.staged)); err != nil {
		return err
	}
	if err := d.above(filepath.Dir(d.wal.staged)); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	if err := d.syncAll(); err != nil {
		return err
	}
	if d.apart() {
		if err := d.move(&d.wal); err != nil {
			return err
		}
	}
	return d.move(&d.member)
}

// above makes a directory with those above it, where they are missing.
func (d *dirs) above(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := d.above(parent); err != nil {
			return err
		}
	}
	return d.mkdir(dir)
}

// mkdir makes a directory that must not exist: of two restores at a time one fails here.
func (d *dirs) mkdir(dir string) error {
	if err := os.Mkdir(dir, dirMode); err != nil {
		return err
	}
	d.made = append(d.made, dir)
	return nil
}

// syncAll makes the names of all that was made durable, but for the last renames.
func (d *dirs) syncAll() error {
	for _, dir := range append(slices.Clone(d.made), filepath.Join(d.member.staged, "snap"), d.wal.staged) {
		if err := errors.Join(d.fs.SyncDir(dir), d.fs.SyncDir(filepath.Dir(dir))); err != nil {
			return err
		}
	}
	return nil
}

func (d *dirs) move(p *place) error {
	if err := d.fs.Rename(p.staged, p.last); err != nil {
		return err
	}
	p.moved = true
	return d.fs.SyncDir(filepath.Dir(p.last))
}

// undo removes what build has made. Directories that others have put something into stay.
func (d *dirs) undo() error {
	var err error
	for _, p := range []place{d.wal, d.member} {
		if p.moved {
			err = errors.Join(err, os.RemoveAll(p.last))
		}
	}
	if slices.Contains(d.made, d.member.staged) {
		err = errors.Join(err, os.RemoveAll(d.member.staged), os.RemoveAll(d.wal.staged), os.RemoveAll(d.wal.staged+".tmp"))
	}
	for _, dir := range slices.Backward(d.made) {
		_ = os.Remove(dir) // fails where it is gone already, or not ours alone
	}
	return err
}

// copyState copies the database of src to a new file, durable when it answers.
func copyState(path string, src *source) (err error) {
	from, err := os.Open(src.path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := io.CopyN(to, from, src.bytes); err != nil {
		return fmt.Errorf("copy %s: %w", src.path, err)
	}
	return to.Sync()
}
