package wal

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
)

// ReadOnly reads a log and changes nothing: it takes no lock, and leaves a torn tail as it is. For tools that know that no
// member writes meanwhile. Errors: fs.ErrNotExist where there is no log, *CorruptError, or the disk's.
func ReadOnly(fsys vfs.FS, dir string, lg *zap.Logger) (*Contents, error) {
	dir = filepath.Clean(dir)
	names, err := listSegments(fsys, dir, lg)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("wal: read %s: %w", dir, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	r := &replay{}
	defer func() {
		for _, s := range r.index.segments {
			_ = s.file.Close() // nothing was written to it
		}
	}()
	for _, n := range names {
		f, err := fsys.Open(filepath.Join(dir, n.String()))
		if err != nil {
			return nil, fmt.Errorf("wal: open segment %s: %w", n, err)
		}
		r.index.segments = append(r.index.segments, newSegment(dir, n, f))
	}
	if _, err = r.run(0); err != nil {
		return nil, err
	}
	return &Contents{Metadata: r.metadata, State: r.state.proto(), Mark: *r.chosen, Entries: r.ents}, nil
}
