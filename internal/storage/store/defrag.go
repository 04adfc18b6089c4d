package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"

	"keelson/internal/storage/schema"
)

const (
	// defragSuffix names the copy that a defragmentation makes; snap.CleanTemp removes what a crash leaves of it.
	defragSuffix = ".tmp.defrag"
	// catchUpBytes bounds one transaction of catching up: what 10,000 puts of 400 bytes make.
	catchUpBytes = 4 << 20
	// lastRoundBytes is how little a round must have had to catch up with for the next one to be the last, under
	// commitMu: as long as that takes, a few milliseconds, nothing is committed.
	lastRoundBytes = 256 << 10
	// roundsMax bounds the rounds where changes come as fast as they are copied: each is then as long as the one
	// before, and the last one longer than it should be; but it is Append's bound that stops a put, not commitMu.
	roundsMax = 8
	// roomMargin is what a copy must leave free on the disk: the file itself grows meanwhile, 16 MiB at a time, and a
	// commit that finds no room ends the member.
	roomMargin = 32 << 20
	// restMax bounds a rest: a disk that is as slow as this is busy with others' work, which a longer one helps little.
	restMax = time.Second
)

// A DefragStage is a moment of a defragmentation.
type DefragStage int

// The stages, in order.
const (
	// DefragCopied: the copy holds what the file held when it was begun.
	DefragCopied DefragStage = iota
	// DefragCaughtUp: it holds all that is committed, durably.
	DefragCaughtUp
	// DefragRenamed: it has the file's name, perhaps not durably.
	DefragRenamed
)

// defragmenter runs defragmentations one after the other, each on a goroutine of its own.
type defragmenter struct {
	s *Store
	// turn is held by the defragmentation under way and by each compaction while it deletes. So while a copy is
	// made, bucket key only grows at its end, and what is behind the copy's last revision is all that it lacks there.
	turn chan struct{}
	// active: one is under way.
	active atomic.Bool

	mu sync.Mutex // protects all below
	// next was asked for and has not begun: who asks meanwhile shares it. One that has begun may have passed over what
	// has been deleted since.
	next   *defragRun
	closed bool
}

type defragRun struct {
	done chan struct{}
	err  error // once done is closed
}

func newDefragmenter(s *Store) *defragmenter {
	return &defragmenter{s: s, turn: make(chan struct{}, 1)}
}

func (d *defragmenter) take(ctx context.Context) error {
	select {
	case d.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ErrClosed
	}
}

func (d *defragmenter) give() { <-d.turn }

// stop refuses further runs; the one under way ends with the compactor's context.
func (d *defragmenter) stop() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
}

// Defragment gives the disk what the file no longer needs: it writes all that is in it into a new file and puts that
// in its place. Reads and commits go on meanwhile, a compaction that is asked for waits. It answers when the new file
// is in use, durably. ctx bounds the wait alone; the work goes on without it. Where the copy cannot be made, as on a
// full disk, the file stays as it is.
func (s *Store) Defragment(ctx context.Context) error {
	r, err := s.defrag.ask()
	if err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Defragmenting tells whether a defragmentation is under way.
func (s *Store) Defragmenting() bool { return s.defrag.active.Load() }

func (d *defragmenter) ask() (*defragRun, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	if d.next == nil {
		r := &defragRun{done: make(chan struct{})}
		d.next = r
		d.s.joined.Go(func() {
			r.err = d.run(d.s.compact.ctx)
			close(r.done)
		})
	}
	return d.next, nil
}

func (d *defragmenter) run(ctx context.Context) error {
	err := d.take(ctx)
	d.mu.Lock()
	d.next = nil
	d.mu.Unlock()
	if err != nil {
		return err
	}
	defer d.give()
	d.active.Store(true)
	defer d.active.Store(false)
	s, start := d.s, d.s.o.Clock.Now()
	size, inUse := zap.Int64("size-before", s.Size()), zap.Int64("size-in-use-before", s.SizeInUse())
	s.o.Logger.Info("defragmenting the state file", zap.String("file", s.name), size, inUse)
	if err := d.rewrite(ctx); err != nil {
		s.o.Logger.Warn("the state file was not defragmented", zap.String("file", s.name), zap.Error(err))
		return fmt.Errorf("store: defragment %s: %w", s.name, err)
	}
	took := s.o.Clock.Now().Sub(start)
	if s.o.Observe.Defrag != nil {
		s.o.Observe.Defrag(took)
	}
	s.o.Logger.Info("defragmented the state file", zap.String("file", s.name), size, inUse,
		zap.Int64("size", s.Size()), zap.Int64("size-in-use", s.SizeInUse()), zap.Duration("took", took))
	return nil
}

// rewrite copies the file, catches up with it and takes its place.
func (d *defragmenter) rewrite(ctx context.Context) (err error) {
	temp := d.s.fs.OSPath(d.s.name) + defragSuffix
	if err := checkRoom(filepath.Dir(temp), d.s.SizeInUse()); err != nil {
		return err
	}
	epoch, err := d.copyTo(ctx, temp)
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(temp))
		}
	}()
	if err != nil {
		return err
	}
	d.at(DefragCopied)
	to, err := openMapped(temp, boltOptions(&d.s.o))
	if err != nil {
		return err
	}
	if err = d.follow(ctx, to, epoch); err == nil {
		err = d.replace(to, epoch)
	}
	if err == nil || to.stuck.Load() {
		return err
	}
	return errors.Join(err, to.db.Close())
}

// checkRoom tells whether a copy of need bytes fits on dir's disk beside the work that goes on.
func checkRoom(dir string, need int64) error {
	if free, ok := freeBytes(dir); ok && free < need+roomMargin {
		return fmt.Errorf("the copy needs %d bytes, and %d more must stay free: %s has %d", need, roomMargin, dir, free)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (d *defragmenter) at(stage DefragStage) {
	if d.s.o.AtDefrag != nil {
		d.s.o.AtDefrag(stage)
	}
}

// copyTo writes the file, as it is now, to a new one at temp. epoch is the file's.
func (d *defragmenter) copyTo(ctx context.Context, temp string) (epoch uint64, err error) {
	// While commitMu is held the file stays, and its newest meta page is the one that the transaction begins with. The
	// pages that it leads to are not written again before the transaction ends.
	d.s.commitMu.Lock()
	epoch = d.s.queue.present()
	f, err := d.s.files.acquire()
	if err != nil {
		d.s.commitMu.Unlock()
		return epoch, err
	}
	defer func() { err = errors.Join(err, d.s.files.release(f)) }()
	c := &checker{r: f.handle, path: f.path, pageSize: uint64(f.db.Info().PageSize)}
	tx, err := f.db.Begin(false)
	var m meta
	if err == nil {
		m, err = c.begin()
	}
	d.s.commitMu.Unlock()
	if tx != nil {
		d.s.files.open.Add(1)
		defer func() {
			d.s.files.open.Add(-1)
			_ = tx.Rollback() // of a read transaction: cannot fail
		}()
	}
	if err != nil {
		return epoch, err
	}
	rest := func(used time.Duration) error { return d.s.queue.rest(ctx, epoch, min(used, restMax)) }
	return epoch, pack(c, m.root, temp, packOptions{noSync: d.s.o.NoSync, clock: d.s.o.Clock, rest: rest})
}

// follow catches up with what was committed since the copy was begun, until little is left.
func (d *defragmenter) follow(ctx context.Context, to *file, epoch uint64) error {
	for range roundsMax {
		changed := 0
		for more := true; more; {
			start := d.s.o.Clock.Now()
			n, err := d.catchUp(to, catchUpBytes)
			if err != nil {
				return err
			}
			if err := d.s.queue.rest(ctx, epoch, min(d.s.o.Clock.Now().Sub(start), restMax)); err != nil {
				return err
			}
			changed += n
			more = n >= catchUpBytes
		}
		if changed <= lastRoundBytes {
			break
		}
	}
	return nil
}

// catchUp makes to hold what is committed, as far as one transaction of max bytes of changes leads. It gives the size
// of what it changed: with less than max, all.
func (d *defragmenter) catchUp(to *file, max int) (changed int, err error) {
	to.stuck.Store(true) // as in commit
	err = guard(to, func(*bool) error {
		tx, err := to.db.Begin(true)
		if err != nil {
			return err
		}
		err = d.s.viewLong(func(from *readTx) (err error) {
			if changed, err = alike(from.Tx, tx, max); err != nil {
				return err
			}
			// The values that bolt writes now are still those in the other file's pages.
			return guard(to, func(*bool) error { return tx.Commit() })
		})
		if corrupt := (*CorruptError)(nil); err != nil && !errors.As(err, &corrupt) {
			if failed := tx.Rollback(); !errors.Is(failed, berrors.ErrTxClosed) {
				err = errors.Join(err, failed)
			}
		}
		return err
	})
	if corrupt := (*CorruptError)(nil); !errors.As(err, &corrupt) {
		to.stuck.Store(false)
	}
	return changed, err
}

// alike makes each bucket of to hold what it holds in from, with changes of about max bytes at most, and gives their
// size. All revisions up to the last one in to are the same already.
func alike(from, to *bolt.Tx, max int) (changed int, err error) {
	err = from.ForEach(func(name []byte, theirs *bolt.Bucket) error {
		ours, err := to.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		var start []byte
		if string(name) == schema.Key.String() {
			ours.FillPercent = keyFill
			start, _ = ours.Cursor().Last()
		}
		ops, n := differences(theirs.Cursor(), ours.Cursor(), start, max-changed)
		changed += n
		for _, op := range ops {
			if op.Delete {
				err = ours.Delete(op.Key)
			} else {
				err = ours.Put(op.Key, op.Value)
			}
			if err != nil {
				return fmt.Errorf("bucket %s, key %q: %w", name, op.Key, err)
			}
		}
		return nil
	})
	return changed, err
}

// differences gives the changes, of about max bytes, that make ours like theirs from the key start on, and their size.
func differences(theirs, ours *bolt.Cursor, start []byte, max int) (ops []Op, size int) {
	tk, tv := theirs.Seek(start)
	ok, ov := ours.Seek(start)
	for size < max && (tk != nil || ok != nil) {
		order := bytes.Compare(tk, ok)
		switch {
		case ok == nil || tk != nil && order < 0:
			ops = append(ops, Op{Key: tk, Value: tv})
			size += opBytes + len(tk) + len(tv)
			tk, tv = theirs.Next()
		case tk == nil || order > 0:
			ops = append(ops, Op{Key: ok, Delete: true})
			size += opBytes + len(ok)
			ok, ov = ours.Next()
		default:
			if !bytes.Equal(tv, ov) {
				ops = append(ops, Op{Key: tk, Value: tv})
				size += opBytes + len(tk) + len(tv)
			}
			tk, tv = theirs.Next()
			ok, ov = ours.Next()
		}
	}
	return ops, size
}

// replace puts to in the file's place, and lets go of the file.
func (d *defragmenter) replace(to *file, epoch uint64) error {
	old, err := d.swapIn(to, epoch)
	if err != nil {
		return err
	}
	old.retired.Store(true)
	if err := d.s.files.release(old); err != nil {
		d.s.o.Logger.Warn("failed to close the state file that was replaced", zap.Error(err))
	}
	return nil
}

// swapIn gives to, with all that is committed, the file's name and place. Nothing is committed meanwhile: a few
// milliseconds with two syncs, during which changes only queue up.
func (d *defragmenter) swapIn(to *file, epoch uint64) (old *file, err error) {
	d.s.commitMu.Lock()
	defer d.s.commitMu.Unlock()
	if err := d.s.queue.rest(context.Background(), epoch, 0); err != nil {
		return nil, err
	}
	if _, err := d.catchUp(to, math.MaxInt); err != nil {
		return nil, err
	}
	if err := d.agrees(to); err != nil {
		return nil, err
	}
	d.at(DefragCaughtUp)
	path := d.s.fs.OSPath(d.s.name)
	if err := os.Rename(to.path, path); err != nil {
		return nil, err
	}
	to.path = path
	d.at(DefragRenamed)
	// Until the directory is synced, either file may be there after a power failure. The mark goes on only after it,
	// and so does what others conclude from the mark about the log.
	if err := syncDir(d.s.fs, d.s.name); err != nil {
		d.s.fail(err)
		return nil, err
	}
	old = d.s.files.exchange(to)
	d.s.measure(to)
	return old, nil
}

// agrees checks that a copy is as far as the file.
func (d *defragmenter) agrees(to *file) error {
	var m Mark
	err := guard(to, func(outside *bool) error {
		return to.db.View(func(tx *bolt.Tx) (err error) {
			m, err = (&readTx{Tx: tx, file: to, outside: outside}).mark()
			return err
		})
	})
	if err != nil {
		return err
	}
	want, err := d.s.readMark()
	if err == nil && m != want {
		err = fmt.Errorf("the copy is at %+v, the file at %+v", m, want)
	}
	return err
}
