package wal

import (
	"fmt"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
)

// bufKeepBytes is how much room the append buffer keeps between batches: some thousand entries of a few
// hundred bytes. A larger batch's buffer is given back.
const bufKeepBytes = 4 << 20

// Writer appends to a log. Append, Sync, Release and Close belong to one goroutine (the append thread);
// ReadEntries may be called from any. The Writer owns one goroutine, which allocates the next segment and
// removes released ones; Close joins it.
type Writer struct {
	fsys     vfs.FS
	dir      string
	options  Options
	metadata Metadata
	preparer *preparer

	// Owned by the append thread.
	enc   encoder
	state hardState // latest, for the head of the next segment
	dirty bool      // something was appended since the last sync
	err   error     // the first failure; every later call gets it
	spots []int64   // offsets of the entries of the append under way

	mu     sync.RWMutex // guards what follows, against ReadEntries
	index  index
	off    int64 // end of the records in the tail segment
	closed bool
}

// Append writes a batch with one write and does not sync it. Several may precede one Sync. After a
// failure nothing is known about the log's end: the member must stop.
func (w *Writer) Append(b Batch) error {
	if w.err != nil {
		return w.err
	}
	if err := w.append(b); err != nil {
		w.err = err
	}
	return w.err
}

func (w *Writer) append(b Batch) error {
	last, anew, err := w.follows(b)
	if err != nil {
		return err
	}
	if err := check(b.Entries, last); err != nil {
		return err
	}
	w.enc.buf, w.spots = w.enc.buf[:0], w.spots[:0]
	if b.Mark != nil {
		if err := w.enc.mark(*b.Mark); err != nil {
			return err
		}
	}
	for _, e := range b.Entries {
		w.spots = append(w.spots, w.off+int64(len(w.enc.buf)))
		w.enc.entry(e)
	}
	state := w.state
	if s := b.State; s != nil {
		next := hardState{s.GetTerm(), s.GetVote(), s.GetCommit()}
		if next != (hardState{}) {
			state = next
			w.enc.state(state)
		}
	}
	if len(w.enc.buf) == 0 {
		return nil
	}
	if err := w.write(); err != nil {
		return err
	}
	w.state = state
	w.publish(b, anew)
	return nil
}

// follows gives the index that the batch's entries may follow at most, and whether its mark is an
// incoming snapshot, after which the log begins anew.
func (w *Writer) follows(b Batch) (last uint64, anew bool, err error) {
	m := b.Mark
	if m == nil {
		return w.index.last, false, nil
	}
	if m.Index > 0 && m.ConfState == nil {
		return 0, false, fmt.Errorf("wal: mark %d has no members", m.Index)
	}
	if m.Index > w.index.last {
		return m.Index, true, nil
	}
	if _, _, ok := w.index.find(m.Index); !ok {
		return w.index.last, false, nil
	}
	have, err := w.ReadEntries(m.Index, m.Index+1, 0)
	if err != nil {
		return 0, false, err
	}
	if have[0].GetTerm() == m.Term {
		return w.index.last, false, nil
	}
	return m.Index, true, nil
}

// check refuses entries that could not be read back.
func check(ents []*raftpb.Entry, last uint64) error {
	for n, e := range ents {
		i := e.GetIndex()
		if i == 0 || i > last+1 || n > 0 && i != last+1 {
			return fmt.Errorf("wal: append of entry %d after entry %d", i, last)
		}
		if e.GetType() != raftpb.EntryNormal && len(e.Data) == 0 {
			return fmt.Errorf("wal: append of configuration change %d without data", i)
		}
		last = i
	}
	return nil
}

// write puts the buffer behind the tail's last record.
func (w *Writer) write() error {
	tail := w.index.tail()
	start := w.options.Clock.Now()
	if _, err := tail.file.WriteAt(w.enc.buf, w.off); err != nil {
		return fmt.Errorf("wal: write %s at %d: %w", tail.path, w.off, err)
	}
	w.options.OnWrite(w.options.Clock.Now().Sub(start), len(w.enc.buf))
	w.dirty = true
	return nil
}

// publish lets readers find what was written.
func (w *Writer) publish(b Batch, anew bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if anew {
		w.index.reset(b.Mark.Index)
	}
	for n, e := range b.Entries {
		w.index.add(e.GetIndex(), w.spots[n])
	}
	w.off += int64(len(w.enc.buf))
	if cap(w.enc.buf) > bufKeepBytes {
		w.enc.buf = nil
	}
}

// Sync makes everything appended durable. A segment that is full is then closed and the next one begun,
// if one could be prepared; else appends go on in it.
func (w *Writer) Sync() error {
	if w.err != nil {
		return w.err
	}
	w.err = w.sync()
	return w.err
}

func (w *Writer) sync() error {
	if !w.dirty {
		return nil
	}
	tail := w.index.tail()
	var next vfs.File
	if w.off >= w.options.SegmentBytes {
		next = w.preparer.take()
	}
	if next != nil {
		if err := tail.file.Truncate(w.off); err != nil {
			next.Close()
			return fmt.Errorf("wal: cut %s to %d: %w", tail.path, w.off, err)
		}
	}
	if next != nil || !w.options.NoSync {
		if err := w.datasync(tail.file); err != nil {
			return err
		}
	}
	w.dirty = false
	if next == nil {
		return nil
	}
	return w.begin(next)
}

func (w *Writer) datasync(f vfs.File) error {
	start := w.options.Clock.Now()
	if err := f.Datasync(); err != nil {
		return fmt.Errorf("wal: sync %s: %w", f.Name(), err)
	}
	took := w.options.Clock.Now().Sub(start)
	if took > syncSlow {
		w.options.Logger.Warn("slow fdatasync", zap.Duration("took", took), zap.Duration("expected-duration", syncSlow))
	}
	w.options.OnFsync(took)
	return nil
}

// begin makes the prepared file the tail: its head is written and synced before it gets its name, so a
// segment never lacks one.
func (w *Writer) begin(file vfs.File) error {
	s := newSegment(w.dir, name{w.index.tail().seq + 1, w.index.last + 1}, file)
	w.enc.buf = w.enc.buf[:0]
	w.enc.chain()
	w.enc.metadata(w.metadata)
	if w.state != (hardState{}) {
		w.enc.state(w.state)
	}
	if _, err := file.WriteAt(w.enc.buf, 0); err != nil {
		return fmt.Errorf("wal: begin segment %s: %w", s.path, err)
	}
	if err := w.datasync(file); err != nil {
		return err
	}
	if err := w.fsys.Rename(file.Name(), s.path); err != nil {
		return fmt.Errorf("wal: begin segment %s: %w", s.path, err)
	}
	if err := w.fsys.SyncDir(w.dir); err != nil {
		return fmt.Errorf("wal: sync directory %s: %w", w.dir, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index.segments = append(w.index.segments, s)
	w.off = int64(len(w.enc.buf))
	w.options.Logger.Info("created a new WAL segment", zap.String("path", s.path))
	return nil
}

// Release lets go of the segments that a replay from a mark at index does not need: the oldest are removed
// while there are more than MaxFiles. Call it only once a mark at index is synced.
func (w *Writer) Release(index uint64) error {
	if w.err != nil {
		return w.err
	}
	if w.options.MaxFiles == 0 {
		return nil
	}
	for _, s := range w.released(index) {
		w.preparer.remove(s)
	}
	return nil
}

// released takes the segments that may go out of the index.
func (w *Writer) released(index uint64) []*segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	// etcd reads from the last segment whose first index is not above the mark's.
	need := 0
	for n, s := range w.index.segments {
		if s.first <= index {
			need = n
		}
	}
	n := min(need, max(0, len(w.index.segments)-int(w.options.MaxFiles)))
	if n == 0 {
		return nil
	}
	gone := w.index.segments[:n:n]
	w.index.segments = append([]*segment(nil), w.index.segments[n:]...)
	return gone
}

// Close syncs what was appended, joins the Writer's goroutine and gives up the locks. Reads under way end
// first.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	w.closed = true
	w.mu.Unlock()
	err := w.err
	if err == nil && w.dirty && !w.options.NoSync {
		err = w.datasync(w.index.tail().file)
	}
	w.err = ErrClosed
	w.preparer.close()
	for _, s := range w.index.segments {
		if cerr := s.letGo(); err == nil && cerr != nil {
			err = fmt.Errorf("wal: close %s: %w", s.path, cerr)
		}
	}
	return err
}
