package wal

import (
	"path/filepath"
	"sync/atomic"

	"keelson/internal/kit/vfs"
)

// segment is one file of the log with the places of the entries in it that still count. It is closed,
// and with that unlocked, when its last holder lets go.
type segment struct {
	name
	path  string
	file  vfs.File
	refs  atomic.Int32
	index uint64   // of the entry at at[0]
	at    []uint32 // offset of each entry's frame / frameAlign: 4 bytes an entry, up to 32 GiB a segment
}

func newSegment(dir string, n name, file vfs.File) *segment {
	s := &segment{name: n, path: filepath.Join(dir, n.String()), file: file}
	s.refs.Store(1)
	return s
}

func (s *segment) letGo() error {
	if s.refs.Add(-1) > 0 {
		return nil
	}
	return s.file.Close()
}

// index finds entries in the segments. The segments' ranges ascend and do not overlap.
type index struct {
	segments []*segment
	last     uint64 // index of the last entry, or of the snapshot that the log begins after
}

func (x *index) tail() *segment { return x.segments[len(x.segments)-1] }

// add notes that the tail has entry i at off. What was at i and after is superseded.
func (x *index) add(i uint64, off int64) {
	if i <= x.last {
		x.truncate(i)
	}
	t := x.tail()
	if len(t.at) == 0 {
		t.index = i
	}
	t.at = append(t.at, uint32(off/frameAlign))
	x.last = i
}

// truncate forgets entry i and those after it.
func (x *index) truncate(i uint64) {
	for n := len(x.segments) - 1; n >= 0; n-- {
		s := x.segments[n]
		if len(s.at) == 0 || s.index+uint64(len(s.at)) <= i {
			continue
		}
		if s.index < i {
			s.at = s.at[:i-s.index]
			return
		}
		s.at = s.at[:0]
	}
}

// reset forgets all entries: the log goes on after i.
func (x *index) reset(i uint64) {
	for _, s := range x.segments {
		s.at = nil
	}
	x.last = i
}

// find gives the segment and offset of entry i.
func (x *index) find(i uint64) (*segment, int64, bool) {
	for n := len(x.segments) - 1; n >= 0; n-- {
		s := x.segments[n]
		if i >= s.index && i-s.index < uint64(len(s.at)) {
			return s, int64(s.at[i-s.index]) * frameAlign, true
		}
	}
	return nil, 0, false
}
