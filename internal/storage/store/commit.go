package store

import (
	"bytes"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"

	"keelson/internal/storage/schema"
)

// commitLoop is the store goroutine: it takes whatever is queued, every BatchInterval while anything is, or
// as soon as something is due, and commits it in one transaction.
func (s *Store) commitLoop() {
	defer s.joined.Done()
	timer := s.o.Clock.NewTimer(s.o.BatchInterval)
	defer timer.Stop()
	timer.Stop()
	armed, fired := false, false
	var spare []*Batch
	for {
		l, ok, waiting := s.takeAndCommit(fired, spare)
		if ok {
			clear(l.batches)
			spare = l.batches
			armed, fired = false, false
			continue
		}
		if s.queue.ended() {
			return
		}
		if waiting && !armed {
			timer.Reset(s.o.BatchInterval)
			armed = true
		}
		fired = false
		select {
		case <-s.queue.wake:
		case <-timer.C:
			armed, fired = false, true
		}
	}
}

// ended tells whether the store goroutine may leave.
func (q *queue) ended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err != nil || q.closing && q.next.empty()
}

// takeAndCommit commits what is queued if it is due. A load that was taken is either committed or the end
// of the store.
func (s *Store) takeAndCommit(force bool, spare []*Batch) (l load, ok, waiting bool) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	l, ok, waiting = s.queue.take(force, spare)
	if !ok {
		return l, ok, waiting
	}
	start := s.o.Clock.Now()
	var times CommitTimes
	f, err := s.files.acquire()
	if err == nil {
		times, err = s.commit(f, &l)
		err = errors.Join(err, s.files.release(f))
	}
	if err != nil {
		s.o.Logger.Error("the state file cannot be written; this member stops", zap.String("file", s.name), zap.Error(err))
		s.fail(err)
		l.refuse(err)
		return l, true, false
	}
	if s.o.OnCommit != nil {
		times.Took = s.o.Clock.Now().Sub(start)
		s.o.OnCommit(times)
	}
	mark := l.mark
	s.queue.committed(l, func() { s.mark.Store(&mark) })
	return l, true, false
}

// commit writes l in one transaction and notes in it the mark that it reaches. It tells what bolt's stages took.
func (s *Store) commit(f *file, l *load) (times CommitTimes, err error) {
	mark := s.Committed()
	// A panic of bolt's leaves its locks held; it is disarmed by the assignment after the transaction.
	f.stuck.Store(true)
	err = guard(f, func(outside *bool) error {
		tx, err := f.db.Begin(true)
		if err != nil {
			return err
		}
		w := writer{tx: tx, mark: mark}
		if err := w.write(l); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if s.o.BeforeCommit != nil {
			*outside = true
			s.o.BeforeCommit()
			*outside = false
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		l.mark = w.mark
		stats := tx.Stats()
		times = CommitTimes{Rebalance: stats.GetRebalanceTime(), Spill: stats.GetSpillTime(), Write: stats.GetWriteTime()}
		return nil
	})
	if corrupt := (*CorruptError)(nil); !errors.As(err, &corrupt) {
		f.stuck.Store(false)
	}
	if err != nil {
		return times, fmt.Errorf("store: commit %d batches up to index %d: %w", len(l.batches), mark.Index, err)
	}
	s.measure(f)
	return times, nil
}

// measure publishes the file's sizes.
func (s *Store) measure(f *file) {
	tx, err := f.db.Begin(false)
	if err != nil {
		return
	}
	size := tx.Size()
	_ = tx.Rollback()
	s.size.Store(size)
	s.inUse.Store(size - int64(f.db.Stats().FreePageN)*int64(f.db.Info().PageSize))
}

// writer fills one write transaction.
type writer struct {
	tx      *bolt.Tx
	buckets [schema.BucketsLen]*bolt.Bucket
	mark    Mark
}

func (w *writer) bucket(b schema.Bucket) *bolt.Bucket {
	if w.buckets[b.ID] == nil {
		w.buckets[b.ID] = w.tx.Bucket([]byte(b.String()))
		if b == schema.Key {
			w.buckets[b.ID].FillPercent = keyFill
		}
	}
	return w.buckets[b.ID]
}

// write puts the load's changes in order, then the mark that they reach, then a piece of compaction.
func (w *writer) write(l *load) error {
	before := w.mark
	for _, b := range l.batches {
		for i := range b.Ops {
			op := &b.Ops[i]
			var err error
			if op.Delete {
				err = w.bucket(op.Bucket).Delete(op.Key)
			} else {
				err = w.bucket(op.Bucket).Put(op.Key, op.Value)
			}
			if err != nil {
				return fmt.Errorf("bucket %s, key %q: %w", op.Bucket, op.Key, err)
			}
		}
		if b.Index == 0 {
			continue
		}
		if b.Index < w.mark.Index {
			return fmt.Errorf("batch of index %d after index %d", b.Index, w.mark.Index)
		}
		w.mark = Mark{Index: b.Index, Term: b.Term, Rev: max(w.mark.Rev, b.Rev)}
	}
	meta := w.bucket(schema.Meta)
	if w.mark.Index != before.Index {
		if err := meta.Put(schema.ConsistentIndexKey, schema.PutUint64(w.mark.Index)); err != nil {
			return err
		}
	}
	if w.mark.Term != before.Term && w.mark.Term != 0 {
		if err := meta.Put(schema.TermKey, schema.PutUint64(w.mark.Term)); err != nil {
			return err
		}
	}
	if l.piece == nil {
		return nil
	}
	return w.compact(l.piece)
}

// compact deletes the revisions of a piece. Whether one is a tombstone only its stored key says. One that
// is not there was deleted before a restart.
func (w *writer) compact(p *piece) error {
	var (
		c    = w.bucket(schema.Key).Cursor()
		want []byte
	)
	for _, rev := range p.dead {
		want = schema.AppendRevisionKey(want[:0], rev, false)
		k, _ := c.Seek(want)
		if !bytes.HasPrefix(k, want) {
			continue
		}
		if err := c.Delete(); err != nil {
			return fmt.Errorf("delete revision %v: %w", rev, err)
		}
	}
	if p.finished == 0 {
		return nil
	}
	// An installed snapshot may have finished a later compaction than the one that memory still works on.
	mark, meta := schema.RevisionKey(schema.Revision{Main: p.finished}, false), w.bucket(schema.Meta)
	if bytes.Compare(meta.Get(schema.FinishedCompactKey), mark) >= 0 {
		return nil
	}
	return meta.Put(schema.FinishedCompactKey, mark)
}
