package wal

import (
	"errors"
	"fmt"
	"io"

	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
)

// mend makes the tail segment what an append needs: valid records, durable, and zeros behind them. It
// tells whether anything was cut off.
//
// The records are written again in place before the sync. After a failed sync the process before may have
// left pages that read well, count as clean and never reached the disk; only a new write brings them there.
func (w *Writer) mend(end tailEnd) (repaired bool, err error) {
	tail := w.index.tail()
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("wal: mend the tail of %s: %w", tail.path, err)
	}
	stale, err := firstNonZero(tail.file, end.off)
	if err != nil {
		return fail(err)
	}
	headless := end.frames < headFrames
	repaired = end.torn != nil || headless || stale >= 0
	if repaired {
		w.warn(tail, end, stale)
		if err := w.keepBroken(tail); err != nil {
			return fail(err)
		}
		if err := tail.file.Truncate(end.off); err != nil {
			return fail(err)
		}
	}
	if err := rewrite(tail.file, end.off); err != nil {
		return fail(err)
	}
	if err := tail.file.Preallocate(w.options.SegmentBytes); err != nil {
		w.options.Logger.Warn("failed to allocate the rest of the last WAL segment", zap.String("path", tail.path), zap.Error(err))
	}
	if err := w.completeHead(tail, end); err != nil {
		return fail(err)
	}
	if err := tail.file.Sync(); err != nil {
		return fail(err)
	}
	return repaired, nil
}

func (w *Writer) warn(tail *segment, end tailEnd, stale int64) {
	reason := "bytes that belong to no record lie behind the last one"
	if end.torn != nil {
		reason = end.torn.reason
	} else if end.frames < headFrames {
		reason = "the segment's head is incomplete"
	}
	w.options.Logger.Warn("cut a torn write off the log's end; nobody was told about it",
		zap.String("path", tail.path), zap.Int64("offset", end.off), zap.String("reason", reason),
		zap.Int64("first-stale-byte", stale), zap.String("copy", tail.path+".broken"))
}

// completeHead gives the tail the head that a cut file lost: all of it, or the state alone.
func (w *Writer) completeHead(tail *segment, end tailEnd) error {
	if tail.seq == 0 || end.frames > headFrames {
		return nil
	}
	w.enc.buf = w.enc.buf[:0]
	if end.frames < headFrames {
		w.enc.crc, w.off = end.headed, 0
		w.enc.chain()
		w.enc.metadata(w.metadata)
	}
	if w.state != (hardState{}) {
		w.enc.state(w.state)
	}
	if _, err := tail.file.WriteAt(w.enc.buf, w.off); err != nil {
		return err
	}
	w.off += int64(len(w.enc.buf))
	return nil
}

// firstNonZero gives the offset of the first byte from off on that is not zero, or -1.
func firstNonZero(f vfs.File, off int64) (int64, error) {
	found := int64(-1)
	err := pieces(f, off, func(at int64, b []byte) error {
		if isZero(b) {
			return nil
		}
		for n, c := range b {
			if c != 0 {
				found = at + int64(n)
				return io.EOF
			}
		}
		return nil
	})
	return found, err
}

// rewrite writes the first n bytes over themselves.
func rewrite(f vfs.File, n int64) error {
	return pieces(f, 0, func(at int64, b []byte) error {
		if at >= n {
			return io.EOF
		}
		_, err := f.WriteAt(b[:min(int64(len(b)), n-at)], at)
		return err
	})
}

// keepBroken copies a segment to a .broken file, for whoever wants to know what was cut off.
func (w *Writer) keepBroken(s *segment) error {
	to, err := w.fsys.Create(s.path+".broken", filePerm)
	if err != nil {
		return err
	}
	defer to.Close()
	err = pieces(s.file, 0, func(at int64, b []byte) error {
		if isZero(b) {
			return nil // a hole in the copy
		}
		_, err := to.WriteAt(b, at)
		return err
	})
	if err != nil {
		return err
	}
	return to.Sync()
}

// pieces hands the file's bytes from off on to do, copyBytes at a time. io.EOF from do ends it early.
func pieces(f vfs.File, off int64, do func(at int64, b []byte) error) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	buf := make([]byte, min(copyBytes, max(0, size-off)))
	for off < size {
		b := buf[:min(int64(len(buf)), size-off)]
		if n, err := f.ReadAt(b, off); n < len(b) {
			return fmt.Errorf("read at %d: %w", off, errors.Join(io.ErrUnexpectedEOF, err))
		}
		if err := do(off, b); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}
