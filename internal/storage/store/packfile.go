package store

import (
	"errors"
	"os"
	"time"

	"keelson/internal/kit/clock"
)

// packPiece is how much of a new file is written between two syncs. What is not synced is what the next sync of the log
// may have to wait for: a file system that orders data before metadata writes all of it first. 1 MiB takes a slow disk
// (100 MB/s) 10 ms.
const packPiece = 1 << 20

type packOptions struct {
	noSync bool
	clock  clock.Clock
	// rest is called after each piece with the time that writing it took; its error ends the work.
	rest func(used time.Duration) error
}

// pack writes what c finds below the page root into a new file at path, durable when it returns. Its memory is a piece,
// or two of the largest value.
func pack(c *checker, root uint64, path string, o packOptions) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := &pieces{f: f, at: 2 * int64(c.pageSize), packOptions: o}
	p := newPacker(out, int(c.pageSize))
	c.visitor = p
	if err := c.tree(root, nil, nil, 0); err != nil {
		return err
	}
	metas, err := p.close()
	if err != nil {
		return err
	}
	if err := out.flush(); err != nil {
		return err
	}
	if _, err := f.WriteAt(metas, 0); err != nil {
		return err
	}
	return out.sync()
}

// pieces appends to a file, a piece at a time.
type pieces struct {
	packOptions
	f   *os.File
	at  int64
	buf []byte
}

func (w *pieces) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	if len(w.buf) < packPiece {
		return len(b), nil
	}
	start := w.clock.Now()
	if err := w.flush(); err != nil {
		return 0, err
	}
	return len(b), w.rest(w.clock.Now().Sub(start))
}

// flush writes what was appended and makes it durable.
func (w *pieces) flush() error {
	if _, err := w.f.WriteAt(w.buf, w.at); err != nil {
		return err
	}
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	return w.sync()
}

func (w *pieces) sync() error {
	if w.noSync {
		return nil
	}
	return w.f.Sync()
}
