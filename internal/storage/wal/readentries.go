package wal

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// ReadEntries reads entries lo to hi-1 back from the segments, as many as have maxBytes of encoded size
// together but at least one. It may be called from any goroutine, also while entries are appended; it
// sees what Append has written, synced or not. ErrReleased, ErrUnwritten and *CorruptError are its own.
func (w *Writer) ReadEntries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	var ents []*raftpb.Entry
	var size uint64
	for lo < hi {
		part, err := w.readSegment(lo, hi, maxBytes, &size)
		if err != nil {
			return nil, err
		}
		ents = append(ents, part...)
		if len(part) == 0 || size >= maxBytes {
			break
		}
		lo += uint64(len(part))
	}
	return ents, nil
}

// runEntriesMax bounds the places copied for one stretch: 16 KiB. Longer reads take several.
const runEntriesMax = 4096

// run is a stretch of entries in one segment: frames from the one at from on, the wanted ones at at.
type run struct {
	s     *segment
	from  int64
	at    []uint32
	index uint64
	end   int64 // bytes of the segment that are written
}

// locate finds the entries from lo to hi-1 that lie in the same segment as lo, and takes hold of it.
func (w *Writer) locate(lo, hi uint64) (run, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return run{}, ErrClosed
	}
	if hi > w.index.last+1 {
		return run{}, fmt.Errorf("%w: %d of %d", ErrUnwritten, hi-1, w.index.last)
	}
	s, _, ok := w.index.find(lo)
	if !ok {
		return run{}, fmt.Errorf("%w: %d", ErrReleased, lo)
	}
	at := s.at[lo-s.index : min(hi-s.index, uint64(len(s.at)), lo-s.index+runEntriesMax)]
	r := run{s: s, index: lo, at: slices.Clone(at), end: w.off}
	// The frame before vouches for the checksum of the first one; the segment's head does so for all.
	if lo > s.index {
		r.from = int64(s.at[lo-s.index-1]) * frameAlign
	}
	if s != w.index.tail() {
		size, err := s.file.Size()
		if err != nil {
			return run{}, fmt.Errorf("wal: size of %s: %w", s.path, err)
		}
		r.end = size
	}
	s.refs.Add(1)
	return r, nil
}

// span guesses how many bytes a read of at most maxBytes needs: up to the last entry and some more.
func (r *run) span(maxBytes uint64) int {
	const more = 4096
	known := uint64(int64(r.at[len(r.at)-1])*frameAlign - r.from)
	return int(min(known, maxBytes, copyBytes) + more)
}

func (w *Writer) readSegment(lo, hi, maxBytes uint64, size *uint64) ([]*raftpb.Entry, error) {
	r, err := w.locate(lo, hi)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.s.letGo() }()
	var ents []*raftpb.Entry
	frames := frameReader{file: r.s.file, off: r.from, limit: r.end, trust: true, ahead: r.span(maxBytes)}
	for len(r.at) > 0 {
		f, err := frames.next()
		if err != nil {
			return nil, r.corrupt(err)
		}
		if f.off != int64(r.at[0])*frameAlign {
			continue // a state, a mark, or an entry that was superseded
		}
		e, err := parseEntry(f.data)
		if err == nil && (f.typ != typeEntry || e.GetIndex() != r.index) {
			err = fmt.Errorf("record type %d in place of entry %d", f.typ, r.index)
		}
		if err != nil {
			return nil, r.corrupt(&flaw{off: f.off, reason: err.Error()})
		}
		if n := uint64(len(f.data)); *size > 0 && *size+n > maxBytes {
			*size = maxBytes
			return ents, nil
		} else {
			*size += n
		}
		ents, r.at, r.index = append(ents, e), r.at[1:], r.index+1
	}
	return ents, nil
}

func (r *run) corrupt(err error) error {
	var f *flaw
	switch {
	case errors.As(err, &f):
		return &CorruptError{File: r.s.path, Offset: f.off, Reason: f.reason}
	case errors.Is(err, errEnd):
		return &CorruptError{File: r.s.path, Reason: fmt.Sprintf("entry %d is missing", r.index)}
	}
	return err
}
