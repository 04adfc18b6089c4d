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
	// pieceRevs is how many revisions one transaction deletes: at worst each lies on a page of its own, so
	// 4 MB are written, and the batches of that moment wait some 10 ms longer for their commit.
	pieceRevs = 1000
	// piecePause lies between two pieces, as in etcd: a big compaction takes a part of the disk, not all.
	piecePause = 10 * time.Millisecond
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
	// must come back when its owner stops.
	Dead func(max int) []schema.Revision
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
	if err := c.hash(j.Rev); err != nil {
		return err
	}
	deleted, err := c.deleteAll(j)
	if err != nil {
		return err
	}
	c.s.o.Logger.Info("compacted the state file", zap.Int64("revision", j.Rev), zap.Int("deleted", deleted),
		zap.Duration("took", c.s.o.Clock.Now().Sub(start)), zap.Int64("size", c.s.Size()), zap.Int64("size-in-use", c.s.SizeInUse()))
	return nil
}

// hash keeps the hash at rev, unless the compaction before, or this one, was interrupted and has deleted
// a part.
func (c *compactor) hash(rev int64) error {
	kept := CompactionHash{Rev: rev}
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
		kept.Hash, err = h.sum()
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
	for {
		dead := pull(j.Dead)
		slices.SortFunc(dead, func(a, b schema.Revision) int {
			if a.Less(b) {
				return -1
			}
			return 1
		})
		last := len(dead) < deadRevsMax
		deleted += len(dead)
		for len(dead) > pieceRevs || len(dead) > 0 && !last {
			n := min(len(dead), pieceRevs)
			if err := c.deletePiece(j.epoch, &piece{dead: dead[:n]}); err != nil {
				return deleted, err
			}
			dead = dead[n:]
			if err := c.pause(); err != nil {
				return deleted, err
			}
		}
		if last {
			return deleted, c.deletePiece(j.epoch, &piece{dead: dead, finished: j.Rev})
		}
	}
}

// pull collects what dead gives, up to deadRevsMax.
func pull(dead func(max int) []schema.Revision) []schema.Revision {
	var all []schema.Revision
	for len(all) < deadRevsMax {
		some := dead(deadRevsMax - len(all))
		if len(some) == 0 {
			break
		}
		all = append(all, some...)
	}
	return all
}

// deletePiece has the store goroutine commit p.
func (c *compactor) deletePiece(epoch uint64, p *piece) error {
	p.done = make(chan error, 1)
	if err := c.s.queue.push(p, epoch); err != nil {
		return err
	}
	err := <-p.done
	if err == nil && p.finished != 0 {
		c.s.interrupted.Store(false)
	}
	return err
}

func (c *compactor) pause() error {
	t := c.s.o.Clock.NewTimer(piecePause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return ErrClosed
	}
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
