package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"keelson/internal/storage/schema"
)

// piece is a bounded part of a compaction: it rides along with whatever batches are due.
type piece struct {
	dead []schema.Revision
	// finished is the compaction's revision on its last piece, else 0.
	finished int64
	// done gets nil once the piece is committed, or the reason why it never will be. It has room for one.
	done chan error
}

// load is what one commit takes.
type load struct {
	batches []*Batch
	piece   *piece
	// seq numbers the last batch of the load.
	seq uint64
	// bytes is the batches' size, and ops the number of their changes.
	bytes int64
	ops   int
	// mark is what the file has reached with it, once it is committed.
	mark Mark
}

func (l *load) empty() bool { return len(l.batches) == 0 && l.piece == nil }

// queue holds what waits for a commit. Any goroutine may add; the store goroutine takes.
type queue struct {
	limits Options

	// wake tells the store goroutine that something became due, or that a first batch is there. It has
	// room for one.
	wake chan struct{}
	// pending is the size of what is queued and of what is being committed.
	pending atomic.Int64

	// mu protects all below.
	mu      sync.Mutex
	room    sync.Cond // pending fell, or the queue ended
	next    load
	taken   int64  // size of what is being committed
	appends uint64 // batches ever added; a batch's number in seq
	done    uint64 // batches ever committed
	urgent  bool
	// syncTo is the highest index that somebody waits for: what comes up to it is committed at once.
	syncTo uint64
	// epoch counts the files: a piece of compaction is meant for one of them.
	epoch uint64
	// changed is closed and replaced at each commit and when the queue ends.
	changed chan struct{}
	// err ends the queue: nothing is committed any more.
	err     error
	closing bool
}

// pressFraction: a commit starts early once this part of PendingBytesMax is queued: a quarter (16 MiB of
// 64), so that a commit that takes as long as three such loads need to arrive still stops nobody.
const pressFraction = 4

func newQueue(o Options) *queue {
	q := &queue{limits: o, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	q.room.L = &q.mu
	return q
}

// add queues b, after waiting for room. It gives b's number, or the error that ended the queue.
func (q *queue) add(b *Batch, urgent bool) (uint64, error) {
	size := b.size()
	q.mu.Lock()
	for q.err == nil && !q.closing && q.next.bytes+q.taken > 0 && q.next.bytes+q.taken+size > q.limits.PendingBytesMax {
		q.urgent = true
		q.signal()
		q.room.Wait()
	}
	if q.err != nil || q.closing {
		err := q.err
		q.mu.Unlock()
		if err == nil {
			err = ErrClosed
		}
		return 0, err
	}
	first := len(q.next.batches) == 0
	q.next.batches = append(q.next.batches, b)
	q.next.bytes += size
	q.next.ops += 1 + len(b.Ops)
	q.appends++
	q.next.seq = q.appends
	q.urgent = q.urgent || urgent || b.Index != 0 && b.Index <= q.syncTo
	if first || q.due() {
		q.signal()
	}
	q.pending.Store(q.next.bytes + q.taken)
	seq := q.appends
	q.mu.Unlock()
	return seq, nil
}

// signal wakes the store goroutine.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// due tells whether a commit should start now; mu is held.
func (q *queue) due() bool {
	return q.urgent || q.closing || q.next.piece != nil ||
		q.next.ops >= q.limits.BatchLimit || q.next.bytes >= q.limits.PendingBytesMax/pressFraction
}

// take hands over all that is queued if a commit is due, or force says so. ok is false where there is
// nothing to do yet; waiting tells that batches are queued.
func (q *queue) take(force bool, spare []*Batch) (l load, ok, waiting bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || !force && !q.due() || q.next.empty() {
		q.urgent = q.urgent && !q.next.empty()
		return load{}, false, len(q.next.batches) > 0
	}
	l = q.next
	q.next = load{batches: spare[:0]}
	q.urgent, q.taken = false, l.bytes
	return l, true, false
}

// committed notes that l is durable. publish sets the store's mark: whoever sees that sees that nothing of l is pending.
func (q *queue) committed(l load, publish func()) {
	q.mu.Lock()
	q.taken = 0
	q.done = max(q.done, l.seq)
	q.pending.Store(q.next.bytes)
	publish()
	q.broadcast()
	q.mu.Unlock()
	if l.piece != nil {
		l.piece.done <- nil
	}
}

// broadcast wakes everybody who waits for a commit or for room; mu is held.
func (q *queue) broadcast() {
	close(q.changed)
	q.changed = make(chan struct{})
	q.room.Broadcast()
}

// end stops the queue for ever with err and drops what it holds. It tells whether this call was the first.
func (q *queue) end(err error) bool {
	q.mu.Lock()
	first := q.err == nil
	if first {
		q.err = err
	}
	dropped := q.drop()
	q.broadcast()
	q.mu.Unlock()
	dropped.refuse(err)
	q.signal()
	return first
}

// drop empties the queue and gives what was in it; mu is held.
func (q *queue) drop() load {
	l := q.next
	q.next = load{}
	q.pending.Store(q.taken)
	return l
}

// refuse tells the owner of a piece that it will not be committed.
func (l *load) refuse(err error) {
	if l.piece != nil {
		l.piece.done <- err
	}
}

// reset drops what is queued because the file was replaced.
func (q *queue) reset() {
	q.mu.Lock()
	dropped := q.drop()
	q.done = q.appends
	q.epoch++
	q.broadcast()
	q.mu.Unlock()
	dropped.refuse(errReplaced)
}

// push gives the store goroutine a piece for the file of epoch; the queue holds one at a time.
func (q *queue) push(p *piece, epoch uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.serves(epoch); err != nil {
		return err
	}
	q.next.piece = p
	q.signal()
	return nil
}

// present gives the epoch of the present file.
func (q *queue) present() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.epoch
}

// serves tells why nothing can be done any more for the file of epoch, nil where it can; mu is held.
func (q *queue) serves(epoch uint64) error {
	switch {
	case q.err != nil:
		return q.err
	case q.closing:
		return ErrClosed
	case q.epoch != epoch:
		return errReplaced
	}
	return nil
}

// rest leaves disk and processor to others for a while, and tells why going on is pointless, if it is.
func (q *queue) rest(ctx context.Context, epoch uint64, pause time.Duration) error {
	q.mu.Lock()
	err := q.serves(epoch)
	q.mu.Unlock()
	if err != nil || pause <= 0 {
		return err
	}
	t := q.limits.Clock.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ErrClosed
	}
}

// wait returns once reached says so, asking for commits up to index at once. reached is called with mu held.
func (q *queue) wait(ctx context.Context, index uint64, reached func() bool) error {
	for {
		q.mu.Lock()
		ok, err, changed := reached(), q.err, q.changed
		if !ok && err == nil {
			q.syncTo = max(q.syncTo, index)
			q.urgent = q.urgent || len(q.next.batches) > 0
			q.signal()
		}
		q.mu.Unlock()
		if ok {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settled waits until every batch added before the call is durable.
func (q *queue) settled(ctx context.Context) error {
	q.mu.Lock()
	seq := q.appends
	q.mu.Unlock()
	return q.wait(ctx, 0, func() bool { return q.done >= seq })
}

// close refuses further batches and has the rest committed.
func (q *queue) close() {
	q.mu.Lock()
	q.closing = true
	q.room.Broadcast()
	q.signal()
	q.mu.Unlock()
}
