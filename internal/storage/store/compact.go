package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/internal/storage/schema"
)

const (
	// compactionBatchDefault is etcd's: at worst each of so many revisions lies on a page of its own, so 4 MB
	// are written, and the batches of that moment wait some 10 ms longer for their commit.
	compactionBatchDefault = 1000
	// pieceRestMin and restMax bound the pause after a piece, which is half as long as the piece took: a compaction takes
	// two thirds of the time of a store that nobody else needs, and waits longer where it had to wait.
	pieceRestMin = time.Millisecond
	// deadRevsMax bounds the dead revisions that are held and sorted at a time (16 bytes each: 16 MiB).
	deadRevsMax = 1 << 20
	// compactionHashesMax is how many compactions' hashes are kept, as in etcd.
	compactionHashesMax = 10
)

// errReplaced is what a compaction ends with when the file under it is replaced by a snapshot.
var errReplaced = errors.New("store: the file was replaced")

// Compaction is the physical part of a compaction, whose scheduledCompactRev is in a batch already.
type Compaction struct {
	Rev int64
	// Dead gives up to max of the revisions that the compaction makes dead, in any order, each once, and
	// nothing when there are no more. It is called by the store's compacting goroutine and may wait, but
	// must come back when its owner stops: with an error, which leaves the compaction unfinished.
	Dead func(max int) ([]schema.Revision, error)
}

// Compact deletes what c makes dead, behind the batches appended so far, in bounded pieces between later
// ones, and finishedCompactRev last; compactions run one after the other. The channel is closed when all is
// durable, or will never be because the store ended or its file was replaced. After a restart with
// scheduledCompactRev beyond finishedCompactRev the caller asks again, with the dead revisions found anew.
func (s *Store) Compact(c Compaction) <-chan struct{} {
	j := compaction{Compaction: c, done: make(chan struct{})}
	s.queue.mu.Lock()
	j.after, j.epoch = s.queue.appends, s.queue.epoch
	s.queue.mu.Unlock()
	s.compact.add(j)
	return j.done
}

// compaction is one asked for: it runs once the batch numbered after is durable, while the file is that of
// epoch.
type compaction struct {
	Compaction
	after, epoch uint64
	done         chan struct{}
}

// compactor runs compactions one after the other on a goroutine of its own.
type compactor struct {
	s      *Store
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{}

	mu     sync.Mutex // protects all below
	jobs   []compaction
	hashes []CompactionHash
}

func newCompactor(s *Store) *compactor {
	c := &compactor{s: s, wake: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func (c *compactor) add(j compaction) {
	c.mu.Lock()
	c.jobs = append(c.jobs, j)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *compactor) stop() { c.cancel() }

func (c *compactor) loop() {
	defer c.s.joined.Done()
	for {
		c.mu.Lock()
		var j compaction
		ok := len(c.jobs) > 0
		if ok {
			j, c.jobs = c.jobs[0], c.jobs[1:]
		}
		c.mu.Unlock()
		if ok {
			if err := c.run(j); err != nil {
				c.s.o.Logger.Info("compaction of the state file not finished", zap.Int64("revision", j.Rev), zap.Error(err))
			}
			close(j.done)
			continue
		}
		if c.ctx.Err() != nil {
			return
		}
		select {
		case <-c.wake:
		case <-c.ctx.Done():
		}
	}
}

// run takes the hash and then deletes.
func (c *compactor) run(j compaction) error {
	q := c.s.queue
	if err := q.wait(c.ctx, 0, func() bool { return q.done >= j.after }); err != nil {
		return err
	}
	start := c.s.o.Clock.Now()
	if err := c.hash(j); err != nil {
		return err
	}
	// The copy that a defragmentation makes must miss nothing: see defragmenter.turn.
	if err := c.s.defrag.take(c.ctx); err != nil {
		return err
	}
	defer c.s.defrag.give()
	deleted, err := c.deleteAll(j)
	if err != nil {
		return err
	}
	took := c.s.o.Clock.Now().Sub(start)
	if c.s.o.Observe.Compaction != nil {
		c.s.o.Observe.Compaction(took, deleted)
	}
	c.s.o.Logger.Info("compacted the state file", zap.Int64("revision", j.Rev), zap.Int("deleted", deleted),
		zap.Duration("took", took), zap.Int64("size", c.s.Size()), zap.Int64("size-in-use", c.s.SizeInUse()))
	return nil
}

// hash keeps the hash at rev, unless the compaction before, or this one, was interrupted and has deleted
// a part.
func (c *compactor) hash(j compaction) error {
	rev, kept := j.Rev, CompactionHash{Rev: j.Rev}
	err := c.s.viewLong(func(tx *readTx) error {
		defer forget(tx.Tx)
		finished, err := tx.rev(schema.FinishedCompactKey)
		if err != nil {
			return err
		}
		if finished == 0 {
			finished = -1
		}
		if c.s.interrupted.Load() || finished >= rev {
			kept.Rev = 0
			return nil
		}
		kept.CompactRev = finished
		h := kvHasher{ctx: c.ctx, tx: tx, rev: rev, compactRev: finished, tombstoneLives: true}
		last := c.s.o.Clock.Now()
		h.pause = func() error {
			// It reads what is in memory: a fifth of the time for others is enough for them not to notice.
			err := c.s.queue.rest(c.ctx, j.epoch, min(c.s.o.Clock.Now().Sub(last)/4, restMax))
			last = c.s.o.Clock.Now()
			return err
		}
		kept.Hash, kept.Twin, err = h.sum()
		return err
	})
	if err != nil || kept.Rev == 0 {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hashes = append(c.hashes, kept)
	c.hashes = c.hashes[max(0, len(c.hashes)-compactionHashesMax):]
	return nil
}

// deleteAll pulls the dead revisions and deletes them in ascending order, so that the pieces touch few
// pages.
func (c *compactor) deleteAll(j compaction) (deleted int, err error) {
	for last := false; !last; {
		dead, err := pull(j.Dead)
		if err != nil {
			return deleted, err
		}
		slices.SortFunc(dead, schema.Revision.Compare)
		last = len(dead) < deadRevsMax
		for batch := range slices.Chunk(dead, c.s.o.CompactionBatch) {
			if err := c.deletePiece(j.epoch, &piece{dead: batch}); err != nil {
				return deleted, err
			}
			deleted += len(batch)
		}
	}
	return deleted, c.deletePiece(j.epoch, &piece{finished: j.Rev})
}

// pull collects what dead gives, up to deadRevsMax.
func pull(dead func(max int) ([]schema.Revision, error)) ([]schema.Revision, error) {
	var all []schema.Revision
	for len(all) < deadRevsMax {
		some, err := dead(deadRevsMax - len(all))
		if err != nil || len(some) == 0 {
			return all, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// deletePiece has the store goroutine commit p, and rests.
func (c *compactor) deletePiece(epoch uint64, p *piece) error {
	start := c.s.o.Clock.Now()
	p.done = make(chan error, 1)
	if err := c.s.queue.push(p, epoch); err != nil {
		return err
	}
	if err := <-p.done; err != nil {
		return err
	}
	took := c.s.o.Clock.Now().Sub(start)
	if c.s.o.Observe.Piece != nil {
		c.s.o.Observe.Piece(took)
	}
	if p.finished != 0 {
		c.s.interrupted.Store(false)
		return nil
	}
	pause := c.s.o.CompactionPause
	if pause == 0 {
		pause = min(max(took/2, pieceRestMin), restMax)
	}
	return c.s.queue.rest(c.ctx, epoch, pause)
}

// readInterrupted finds out whether a compaction was decided and has not finished.
func (r *reader) readInterrupted() (interrupted bool, err error) {
	err = r.view(func(tx *readTx) error {
		scheduled, err := tx.rev(schema.ScheduledCompactKey)
		if err != nil {
			return err
		}
		finished, err := tx.rev(schema.FinishedCompactKey)
		interrupted = scheduled != finished
		return err
	})
	return interrupted, err
}
