package wal

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// headFrames is how many frames start every segment: crc and metadata.
const headFrames = 2

// replay reads a log's segments in order and keeps what a member needs of them.
type replay struct {
	index    index
	metadata Metadata
	known    bool // metadata was read
	state    hardState
	base     uint64          // ents[0].Index - 1
	ents     []*raftpb.Entry // entries after base
	floor    uint64          // entries up to here are missing: only a mark from here on will do
	marks    []Mark          // not yet covered by the commit index
	chosen   *Mark
	pending  *pending
	reader   frameReader
}

// pending is an incoming snapshot that no state has confirmed yet, and the log that it is to replace. If
// the next record to be expected does not come, it was abandoned: nobody had been told about it.
type pending struct {
	at     uint64 // the snapshot's index
	base   uint64
	floor  uint64
	ents   []*raftpb.Entry
	index  index
	off    int64 // where its mark is, in segment seq
	seq    uint64
	crc    uint32 // running value before it
	states int    // hard states read since
}

// tailEnd says where a log's valid records end, in its last segment.
type tailEnd struct {
	off    int64
	crc    uint32
	frames int    // in the last segment
	headed uint32 // running crc at its start
	torn   *flaw  // nil if it ends cleanly
}

// replayTail reads from the end of a log what a member needs: all that follows the last snapshot mark. That mostly lies in
// the last segment, or the last two; each further try reads twice as many. Segments before are neither read nor checked, as
// nothing in them is asked for again. Only a read of them all finds that the log is damaged.
func replayTail(segs []*segment) (*replay, tailEnd, error) {
	for n := 1; ; n *= 2 {
		from := max(0, len(segs)-n)
		r := &replay{index: index{segments: segs}}
		end, err := r.run(from)
		if damage := (*CorruptError)(nil); from == 0 || !errors.As(err, &damage) {
			return r, end, err
		}
	}
}

// run reads the segments of r.index from number from on.
func (r *replay) run(from int) (end tailEnd, err error) {
	all := r.index.segments
	defer func() { r.index.segments = all }()
	for _, s := range all {
		s.index, s.at = 0, nil
	}
	if r.base = max(all[from].first, 1) - 1; r.base > 0 {
		r.floor, r.index.last = r.base, r.base
	}
	r.reader.trust = true
	for n, s := range all {
		if n < from {
			continue
		}
		r.index.segments = all[:n+1]
		size, err := s.file.Size()
		if err != nil {
			return end, fmt.Errorf("wal: size of %s: %w", s.path, err)
		}
		end = tailEnd{headed: r.reader.crc}
		r.reader.file, r.reader.off, r.reader.limit, r.reader.buf = s.file, 0, size, r.reader.buf[:0]
		err = r.segment(s, &end)
		var f *flaw
		last := n == len(all)-1
		switch {
		case errors.As(err, &f) && f.torn && last:
			end.torn = f
		case errors.As(err, &f):
			return end, &CorruptError{File: s.path, Offset: f.off, Reason: f.reason}
		case !errors.Is(err, errEnd):
			return end, err
		}
		if end.frames < headFrames && (!last || n == from) {
			return end, &CorruptError{File: s.path, Offset: r.reader.off, Reason: "the segment has no head (crc and metadata)"}
		}
	}
	end.off, end.crc = r.reader.off, r.reader.crc
	r.index.segments = all
	return end, r.finish(&end)
}

// segment reads one segment's frames until something ends it.
func (r *replay) segment(s *segment, end *tailEnd) error {
	for {
		before := r.reader.crc
		f, err := r.reader.next()
		if err != nil {
			return err
		}
		if err := r.place(end.frames, f); err != nil {
			return &flaw{off: f.off, reason: err.Error()}
		}
		if err := r.record(s, f, before); err != nil {
			return &flaw{off: f.off, reason: err.Error()}
		}
		end.frames++
	}
}

// place checks a frame's type against its number in the segment.
func (r *replay) place(n int, f frame) error {
	switch {
	case n == 0 && f.typ != typeCRC:
		return fmt.Errorf("the segment begins with record type %d, not with a crc", f.typ)
	case n == 1 && f.typ != typeMetadata:
		return fmt.Errorf("the segment's second record has type %d, not metadata", f.typ)
	}
	return nil
}

func (r *replay) record(s *segment, f frame, crcBefore uint32) error {
	switch f.typ {
	case typeMetadata:
		md, err := parseMetadata(f.data)
		if err == nil && r.known && md != r.metadata {
			err = fmt.Errorf("metadata of member %x in cluster %x in a log of member %x in cluster %x",
				md.NodeID, md.ClusterID, r.metadata.NodeID, r.metadata.ClusterID)
		}
		r.metadata, r.known = md, true
		return err
	case typeEntry:
		e, err := parseEntry(f.data)
		if err == nil {
			r.entry(e, f.off)
		}
		return err
	case typeState:
		st, err := parseState(f.data)
		if err == nil {
			r.setState(st)
		}
		return err
	case typeMark:
		m, err := parseMark(f.data)
		if err == nil {
			r.mark(m, &pending{at: m.Index, off: f.off, seq: s.seq, crc: crcBefore})
		}
		return err
	default:
		return nil // a crc record, checked by the reader
	}
}

func (r *replay) entry(e *raftpb.Entry, off int64) {
	i := e.GetIndex()
	if r.chosen != nil && i <= r.chosen.Index {
		return // a mark that the commit index covers has it already
	}
	if p := r.pending; p != nil && (i <= p.at || i > r.index.last+1) {
		r.abandon()
	}
	if i > r.index.last+1 || i <= r.base {
		// A hole, or the middle of a log whose beginning was released.
		r.index.reset(i - 1)
		r.ents, r.base, r.floor = nil, i-1, i-1
	}
	r.index.add(i, off)
	r.ents = append(r.ents[:i-r.base-1], e)
}

func (r *replay) setState(st hardState) {
	r.state = st
	if r.pending != nil {
		r.pending.states++
	}
	r.confirm()
}

// mark takes a snapshot mark. One that the log has the entry of is the member's own; for any other the
// log begins anew after it.
func (r *replay) mark(m Mark, p *pending) {
	r.marks = append(r.marks, m)
	if r.incoming(m) {
		if q := r.pending; q != nil {
			// The log to go back to is still the one before the first of them.
			p.base, p.floor, p.ents, p.index = q.base, q.floor, q.ents, q.index
			p.off, p.seq, p.crc, p.states = q.off, q.seq, q.crc, q.states
		} else {
			p.base, p.floor, p.ents, p.index = r.base, r.floor, r.ents, r.index.copy()
		}
		r.pending = p
		r.index.reset(m.Index)
		r.ents, r.base, r.floor = nil, m.Index, m.Index
	}
	r.confirm()
}

func (r *replay) incoming(m Mark) bool {
	if m.Index > r.index.last {
		return true
	}
	return m.Index > r.base && r.ents[m.Index-r.base-1].GetTerm() != m.Term
}

// confirm settles on the latest mark that the commit index covers, and drops the entries up to it.
func (r *replay) confirm() {
	if r.pending != nil && r.pending.at <= r.state.commit {
		r.pending = nil
	}
	r.marks = slices.DeleteFunc(r.marks, func(m Mark) bool {
		covered := m.Index <= r.state.commit
		if covered && (r.chosen == nil || m.Index >= r.chosen.Index) {
			r.chosen = &m
		}
		return covered
	})
	if r.pending == nil && r.chosen != nil && r.chosen.Index > r.base {
		n := min(r.chosen.Index-r.base, uint64(len(r.ents)))
		clear(r.ents[:n])
		r.ents, r.base = r.ents[n:], r.base+n
	}
}

// abandon goes back to the log before a snapshot that never was confirmed.
func (r *replay) abandon() {
	p := r.pending
	r.index.restore(p.index)
	r.ents, r.base, r.floor, r.pending = p.ents, p.base, p.floor, nil
}

// finish checks that what was read is a whole log, and moves end before a snapshot at the very end that
// was never confirmed: nothing that follows its mark was acknowledged.
func (r *replay) finish(end *tailEnd) error {
	tail := r.index.tail()
	if p := r.pending; p != nil {
		r.abandon()
		r.marks = nil
		if p.seq == tail.seq && p.states == 0 {
			end.off, end.crc = p.off, p.crc
			reason := fmt.Sprintf("the snapshot at index %d that came in was not completed: no state confirms it", p.at)
			end.torn = cmp.Or(end.torn, &flaw{off: p.off, torn: true, reason: reason})
		}
	}
	corrupt := func(format string, args ...any) error {
		return &CorruptError{File: tail.path, Offset: end.off, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.chosen == nil:
		return corrupt("the log holds no snapshot mark that its commit index %d covers", r.state.commit)
	case r.chosen.Index < r.floor:
		return corrupt("the entries from %d to %d are missing", r.chosen.Index+1, r.floor)
	case r.state.commit > r.index.last:
		return corrupt("the log ends with entry %d, but %d was committed", r.index.last, r.state.commit)
	}
	return nil
}

func (x *index) copy() index {
	c := index{last: x.last}
	for _, s := range x.segments {
		c.segments = append(c.segments, &segment{index: s.index, at: slices.Clone(s.at)})
	}
	return c
}

// restore puts back what copy took; segments that came since are emptied.
func (x *index) restore(c index) {
	for n, s := range x.segments {
		if s.at = nil; n < len(c.segments) {
			s.index, s.at = c.segments[n].index, c.segments[n].at
		}
	}
	x.last = c.last
}
