// Package store is the state on disk: a bolt file in etcd's schema (member/snap/db) that follows the state
// in memory. Apply hands over batches in log order; one goroutine writes them, many to a transaction, with
// the index and term that they reach in the same transaction. Nobody who serves the present waits for it.
//
// What is read from here is the committed file: superseded values, history for late watchers, hashes,
// snapshots, and everything once at start. Readers use bolt's read transactions, which wait for no writer.
//
// The bolt file lives in the real file system, at vfs.FS.OSPath of its name, since bolt maps it into memory.
//
// Nothing is retried: the first commit that fails ends the store (Options.OnFail), because what a failed
// write or sync has left behind is unknown. A restart replays the log onto the last good transaction.
package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
)

// The values of Options.FreelistType, as etcd's --backend-bbolt-freelist-type names them.
const (
	FreelistMap   = "map"
	FreelistArray = "array"
)

// Defaults of Options.
const (
	// batchIntervalDefault and batchLimitDefault are etcd's.
	batchIntervalDefault = 100 * time.Millisecond
	batchLimitDefault    = 10_000
	// pendingBytesDefault bounds the memory of changes that are not on disk: at 100 MB/s of values it is
	// more than half a second of them.
	pendingBytesDefault = 64 << 20
)

// Options says how a store works. The zero value is etcd's way; Clock and Logger may be left out.
type Options struct {
	// FreelistType is FreelistMap (or empty) or FreelistArray: how bolt keeps free pages in memory.
	FreelistType string
	// BatchInterval is how long a change waits at most before its commit starts (0: 100 ms).
	BatchInterval time.Duration
	// BatchLimit is the number of changes that start a commit at once (0: 10,000).
	BatchLimit int
	// NoSync leaves out every fsync: a power failure may then destroy the file.
	NoSync bool
	// Mlock keeps the file's map from being swapped out.
	Mlock bool
	// PendingBytesMax bounds what is queued and not committed, in bytes (0: 64 MiB): beyond it Append waits.
	PendingBytesMax int64
	Clock           clock.Clock
	Logger          *zap.Logger
	// OnFail is called once, by the store's goroutine, with the error that ended the store.
	OnFail func(error)
	// OnCommit is told how long each commit took, before Committed and Sync tell of it.
	OnCommit func(CommitTimes)
	// CompactionBatch is how many revisions one transaction of a compaction deletes (0: 1000), and CompactionPause lies
	// between two of them (0: half as long as the one before took, from 1 ms to 1 s).
	CompactionBatch int
	CompactionPause time.Duration
	Observe         Observer
	// BeforeCommit and AtDefrag are points for tests to crash at; AtDefrag is told how far a defragmentation is.
	BeforeCommit func()
	AtDefrag     func(DefragStage)
}

// Observer is told what the store does in the background. Nil fields are not called.
type Observer struct {
	// Piece is told how long each piece of a compaction took, its commit included.
	Piece func(took time.Duration)
	// Compaction is told how long a compaction took that has finished, and how many revisions it deleted.
	Compaction func(took time.Duration, revs int)
	// Defrag is told how long a defragmentation took.
	Defrag func(took time.Duration)
}

// CommitTimes is how long a commit took in all, and what bolt took of it for its three stages.
type CommitTimes struct{ Took, Rebalance, Spill, Write time.Duration }

func (o *Options) setDefaults() error {
	switch o.FreelistType {
	case "", FreelistMap, FreelistArray:
	default:
		return fmt.Errorf("store: free list type %q: want %q or %q", o.FreelistType, FreelistMap, FreelistArray)
	}
	if o.BatchInterval <= 0 {
		o.BatchInterval = batchIntervalDefault
	}
	if o.BatchLimit <= 0 {
		o.BatchLimit = batchLimitDefault
	}
	if o.PendingBytesMax <= 0 {
		o.PendingBytesMax = pendingBytesDefault
	}
	if o.CompactionBatch <= 0 {
		o.CompactionBatch = compactionBatchDefault
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return nil
}

// Store is an open state file. It owns two goroutines, the one that commits and the one that compacts, and
// one while it is defragmented; Close joins all. Append is for one goroutine; all other methods may be called from any.
type Store struct {
	reader
	o     Options
	fs    vfs.FS
	name  string // the file's name in fs
	queue *queue
	// commitMu is held through each commit, through Install and through the swap at the end of a defragmentation.
	commitMu sync.Mutex
	mark     atomic.Pointer[Mark]
	size     atomic.Int64
	inUse    atomic.Int64
	compact  *compactor
	defrag   *defragmenter
	// interrupted: a compaction was decided and has not finished, in the life before or in the former file.
	interrupted atomic.Bool
	joined      sync.WaitGroup
	closing     sync.Once
	closeErr    error
}

// Open opens the state file at path, making it with all its buckets where there is none. ErrInUse where
// another process has it, *CorruptError where its structure is damaged.
func Open(fs vfs.FS, path string, o Options) (*Store, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Store{o: o, fs: fs, name: path, queue: newQueue(o), reader: reader{slots: make(chan struct{}, readersMax)}}
	f, err := openFile(fs.OSPath(path), &o, func() error { return syncDir(fs, path) })
	if err != nil {
		return nil, err
	}
	if err := s.adopt(f); err != nil {
		return nil, errors.Join(err, s.files.swap(nil))
	}
	s.compact, s.defrag = newCompactor(s), newDefragmenter(s)
	s.joined.Add(2)
	go s.commitLoop()
	go s.compact.loop()
	return s, nil
}

// adopt makes f the present file and reads its marks.
func (s *Store) adopt(f *file) error {
	if err := s.files.swap(f); err != nil {
		return fmt.Errorf("store: close the former file: %w", err)
	}
	s.measure(f)
	m, err := s.readMark()
	if err != nil {
		return err
	}
	interrupted, err := s.readInterrupted()
	if err != nil {
		return err
	}
	s.interrupted.Store(interrupted)
	s.mark.Store(&m)
	s.queue.reset()
	return nil
}

// syncDir makes durable that the file name is where it is.
func syncDir(fs vfs.FS, name string) error {
	if err := fs.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("store: sync the directory of %s: %w", name, err)
	}
	return nil
}

// Append queues b, which must continue the log where the last one ended. It waits only while more than
// Options.PendingBytesMax is queued. After the store has failed or was closed it drops b: OnFail, Sync and
// Close tell. One goroutine calls it.
func (s *Store) Append(b *Batch) { _, _ = s.queue.add(b, false) }

// PutLocal makes changes that no log entry asks for (storageVersion), between two entries, and returns
// when they are durable, or when an installed snapshot has taken their place.
func (s *Store) PutLocal(ops ...Op) error {
	seq, err := s.queue.add(&Batch{Ops: ops}, true)
	if err != nil {
		return err
	}
	return s.queue.wait(context.Background(), 0, func() bool { return s.queue.done >= seq })
}

// Committed says how far the durable file is.
func (s *Store) Committed() Mark { return *s.mark.Load() }

// Pending is the size of what was appended and is not durable yet, in bytes.
func (s *Store) Pending() int64 { return s.queue.pending.Load() }

// Size is the file's length in bytes, and SizeInUse the part of it that is not free pages.
func (s *Store) Size() int64      { return s.size.Load() }
func (s *Store) SizeInUse() int64 { return s.inUse.Load() }

// OpenReadTxns is the number of read transactions that are open, snapshots included.
func (r *reader) OpenReadTxns() int { return int(r.files.open.Load()) }

// Sync returns when the durable file has reached index, committing without delay whatever leads there.
// The error is ctx's, or the one that ended the store.
func (s *Store) Sync(ctx context.Context, index uint64) error {
	return s.queue.wait(ctx, index, func() bool { return s.Committed().Index >= index })
}

// Close commits what is queued and lets go of the file. The error is the one that ended the store, if one
// did. Snapshots that are still open keep the file open until they are closed.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.queue.close()
		s.closeErr = s.stop()
	})
	return s.closeErr
}

// Abandon lets go of the file without committing what is queued, as a killed process would.
func (s *Store) Abandon() {
	s.closing.Do(func() {
		s.queue.end(ErrClosed)
		s.closeErr = s.stop()
	})
}

func (s *Store) stop() error {
	s.compact.stop()
	s.defrag.stop()
	s.joined.Wait()
	s.queue.mu.Lock()
	err := s.queue.err
	s.queue.mu.Unlock()
	switch {
	case err == nil:
		if f, gone := s.files.acquire(); gone == nil {
			err = errors.Join(f.noteFree(), s.files.release(f))
		}
	case errors.Is(err, ErrClosed):
		err = nil
	}
	if cerr := s.files.swap(nil); err == nil && cerr != nil {
		err = fmt.Errorf("store: close: %w", cerr)
	}
	return err
}

// fail ends the store with err.
func (s *Store) fail(err error) {
	if s.queue.end(err) && s.o.OnFail != nil {
		s.o.OnFail(err)
	}
}

// readMark reads how far the file is.
func (r *reader) readMark() (Mark, error) {
	var m Mark
	err := r.view(func(tx *readTx) (err error) {
		m, err = tx.mark()
		return err
	})
	return m, err
}

// rev reads one of the compaction marks, 0 where it was never set.
func (tx *readTx) rev(key []byte) (int64, error) {
	v := tx.bucket(schema.Meta).Get(key)
	if v == nil {
		return 0, nil
	}
	rev, _, err := schema.ParseRevisionKey(v)
	if err != nil {
		return 0, tx.corrupt(v, err)
	}
	return rev.Main, nil
}

// mark reads how far the transaction's file is.
func (tx *readTx) mark() (Mark, error) {
	var m Mark
	for _, n := range []struct {
		key []byte
		to  *uint64
	}{{schema.ConsistentIndexKey, &m.Index}, {schema.TermKey, &m.Term}} {
		v := tx.bucket(schema.Meta).Get(n.key)
		if v == nil {
			continue
		}
		num, err := schema.Uint64(v)
		if err != nil {
			return Mark{}, tx.corrupt(v, err)
		}
		*n.to = num
	}
	if k, _ := tx.bucket(schema.Key).Cursor().Last(); k != nil {
		rev, _, err := schema.ParseRevisionKey(k)
		if err != nil {
			return Mark{}, tx.corrupt(k, err)
		}
		m.Rev = rev.Main
	}
	return m, nil
}
