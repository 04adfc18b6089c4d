package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"keelson/internal/kit/vfs"
)

// Create makes a new log with its first segment, durable when it answers. dir must not exist, or be empty.
func Create(fsys vfs.FS, dir string, md Metadata, o Options) (*Writer, error) {
	o = o.filled()
	dir = filepath.Clean(dir)
	if Exists(fsys, dir) {
		return nil, fmt.Errorf("wal: create %s: %w", dir, fs.ErrExist)
	}
	if err := createFirst(fsys, dir+".tmp", md, o); err != nil {
		return nil, fmt.Errorf("wal: create %s: %w", dir, err)
	}
	if err := removeTemps(fsys, dir); err != nil {
		return nil, fmt.Errorf("wal: create %s: %w", dir, err)
	}
	if err := fsys.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("wal: create %s, which must be empty: %w", dir, err)
	}
	if err := fsys.Rename(dir+".tmp", dir); err != nil {
		return nil, fmt.Errorf("wal: create %s: %w", dir, err)
	}
	// Reading back what was just written also takes the lock, under the segment's lasting name, and makes the name durable.
	_, w, err := Open(fsys, dir, o)
	return w, err
}

// createFirst writes the first segment into dir, which is made anew.
func createFirst(fsys vfs.FS, dir string, md Metadata, o Options) error {
	if err := fsys.RemoveAll(dir); err != nil {
		return err
	}
	if err := fsys.MkdirAll(dir, dirPerm); err != nil {
		return err
	}
	f, err := fsys.Create(filepath.Join(dir, name{}.String()), filePerm)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Preallocate(o.SegmentBytes); err != nil {
		return err
	}
	var enc encoder
	enc.chain()
	enc.metadata(md)
	if err := enc.mark(Mark{}); err != nil {
		return err
	}
	if _, err := f.WriteAt(enc.buf, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// removeTemps removes segments that were prepared and never used.
func removeTemps(fsys vfs.FS, dir string) error {
	list, err := fsys.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range list {
		if filepath.Ext(e.Name()) == ".tmp" {
			if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Open locks and reads a log and makes it ready to append to. A torn tail is cut off with a warning, after
// the segment was copied to a .broken file. Everything in Contents is durable when Open answers, also
// what the process before had written and not synced. Errors: fs.ErrNotExist where there is no log,
// ErrLocked, *CorruptError, or the disk's.
func Open(fsys vfs.FS, dir string, o Options) (*Contents, *Writer, error) {
	o = o.filled()
	dir = filepath.Clean(dir)
	names, err := listSegments(fsys, dir, o.Logger)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("wal: open %s: %w", dir, fs.ErrNotExist)
	}
	if err != nil {
		return nil, nil, err
	}
	w := &Writer{fsys: fsys, dir: dir, options: o}
	segs, err := lockAll(fsys, dir, names)
	var c *Contents
	if err == nil {
		c, err = w.open(segs)
	}
	if err != nil {
		for _, s := range segs {
			_ = s.letGo() // err is what is wrong
		}
		return nil, nil, err
	}
	return c, w, nil
}

func (w *Writer) open(segs []*segment) (*Contents, error) {
	r, end, err := replayTail(segs)
	if err != nil {
		return nil, err
	}
	w.metadata, w.state, w.index = r.metadata, r.state, r.index
	w.off, w.enc.crc = end.off, end.crc
	repaired, err := w.mend(end)
	if err != nil {
		return nil, err
	}
	if err := removeTemps(w.fsys, w.dir); err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", w.dir, err)
	}
	if err := syncNames(w.fsys, w.dir); err != nil {
		return nil, err
	}
	w.preparer = startPreparer(w.fsys, w.dir, w.options)
	return &Contents{
		Metadata: r.metadata, State: r.state.proto(), Mark: *r.chosen, Entries: r.ents, Repaired: repaired,
	}, nil
}

// syncNames makes the names of the log and its segments durable. The process before may have been killed between giving a name
// and syncing its directory: the segment is there, and is written to and synced, and goes when the power does.
func syncNames(fsys vfs.FS, dir string) error {
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("wal: sync directory %s: %w", dir, err)
	}
	// Who may write to a directory and not read it can't sync it either.
	above := filepath.Dir(dir)
	if err := fsys.SyncDir(above); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("wal: sync directory %s: %w", above, err)
	}
	return nil
}

func lockAll(fsys vfs.FS, dir string, names []name) ([]*segment, error) {
	var segs []*segment
	for _, n := range names {
		f, err := fsys.OpenWrite(filepath.Join(dir, n.String()))
		if err != nil {
			return segs, fmt.Errorf("wal: open segment %s: %w", n, err)
		}
		segs = append(segs, newSegment(dir, n, f))
		if err := f.TryLock(); errors.Is(err, vfs.ErrLocked) {
			return segs, fmt.Errorf("%w: %s", ErrLocked, segs[len(segs)-1].path)
		} else if err != nil {
			return segs, fmt.Errorf("wal: lock segment %s: %w", n, err)
		}
	}
	return segs, nil
}
