package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"keelson/internal/storage/schema"
)

const (
	// lockWait is how long Open waits for another process to let go of the file: one that is being stopped
	// commits its last batch and closes in well under a second.
	lockWait = time.Second
	// mapBytes is the address space reserved for the file on 64-bit systems (10 GiB, as etcd does): bolt must
	// stop all readers to enlarge its map, and so never has to. Windows would make the file that long.
	mapBytes = 10 << 30
	// newSuffix names a file that is not yet complete; snap.CleanTemp removes what a crash leaves of it.
	newSuffix = ".tmp.new"
	// giveBackBytes is how much of a file that was replaced is freed at a time: some 5 ms of ext4's work.
	giveBackBytes = 16 << 20
	// fileMode is the state file's, as etcd makes it.
	fileMode = 0o600
	// keyFill is how full bolt packs pages of bucket key: revisions only ever come at the end, so pages
	// that split would otherwise stay half empty for ever. Some room is left for rewriting marks.
	keyFill = 0.9
)

// file is an open bolt file. It is closed by the last of its users: the store itself, each read
// transaction and each snapshot count one, so a snapshot goes on streaming from a file that was replaced.
type file struct {
	db   *bolt.DB
	path string
	// handle is bolt's own, for reading beside it.
	handle *os.File
	// refs is guarded by files.mu.
	refs int
	// retired: the file has no name any more, and its space comes back when it is closed.
	retired atomic.Bool
	// stuck is set when bolt panicked inside a write: its locks are held and it cannot be closed.
	stuck atomic.Bool
}

// files hands out the present file.
type files struct {
	mu  sync.Mutex // protects cur and every file's refs
	cur *file
	// open counts read transactions.
	open atomic.Int64
}

func (fs *files) acquire() (*file, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.cur == nil {
		return nil, ErrClosed
	}
	fs.cur.refs++
	return fs.cur, nil
}

func (fs *files) release(f *file) error {
	fs.mu.Lock()
	f.refs--
	last := f.refs == 0
	fs.mu.Unlock()
	if !last || f.stuck.Load() {
		return nil
	}
	if f.retired.Load() {
		f.giveBack()
	}
	return f.db.Close()
}

// giveBack shortens a file that nobody uses any more, in steps: a file system that frees hundreds of megabytes at once
// holds up whoever syncs meanwhile.
func (f *file) giveBack() {
	info, err := f.handle.Stat()
	for size := int64(0); err == nil && size < info.Size(); size += giveBackBytes {
		err = f.handle.Truncate(max(0, info.Size()-size-giveBackBytes)) // closing frees what this did not
	}
}

// swap makes f (nil: none) the present file and lets go of the former one.
func (fs *files) swap(f *file) error {
	if old := fs.exchange(f); old != nil {
		return fs.release(old)
	}
	return nil
}

// exchange makes f (nil: none) the present file and gives the former one, which the caller releases.
func (fs *files) exchange(f *file) (old *file) {
	if f != nil {
		f.refs = 1
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	old, fs.cur = fs.cur, f
	return old
}

// openFile checks the file at path (making it where there is none) and opens it. Its name is durable then, also where the
// process before was killed between giving the name and syncing the directory.
func openFile(path string, o *Options, syncDir func() error) (*file, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("store: make the directory of %s: %w", path, err)
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist), err == nil && info.Size() == 0:
		if err := createFile(path, o); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("store: %w", err)
	default:
		if err := CheckFile(path, lockWait); err != nil {
			return nil, err
		}
	}
	if err := syncDir(); err != nil {
		return nil, err
	}
	f, err := openMapped(path, boltOptions(o))
	if err != nil {
		return nil, err
	}
	if err := f.createBuckets(); err != nil {
		return nil, errors.Join(err, f.db.Close())
	}
	return f, nil
}

// openMapped opens a file that is there, and takes its lock.
func openMapped(path string, bo *bolt.Options) (*file, error) {
	f := &file{path: path}
	bo.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		f.handle, err = os.OpenFile(name, flag, mode)
		return f.handle, err
	}
	db, err := openBolt(path, bo)
	if err != nil {
		return nil, err
	}
	f.db = db
	return f, nil
}

// createFile makes an empty state file under a temporary name and gives it its own once it is durable:
// a crash leaves a whole file or none. The caller syncs the directory.
func createFile(path string, o *Options) error {
	temp := path + newSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("store: %w", err)
	}
	db, err := openBolt(temp, boltOptions(o))
	if err != nil {
		return err
	}
	f := &file{db: db, path: temp}
	if err := errors.Join(f.createBuckets(), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// createBuckets makes the buckets that are not there yet: all of them in a new file, those that came with
// a later version in an old one.
func (f *file) createBuckets() error {
	missing := false
	err := guard(f, func(*bool) error {
		return f.db.View(func(tx *bolt.Tx) error {
			for _, b := range schema.Buckets() {
				missing = missing || tx.Bucket([]byte(b.String())) == nil
			}
			return nil
		})
	})
	if err != nil || !missing {
		return err
	}
	err = f.db.Update(func(tx *bolt.Tx) error {
		for _, b := range schema.Buckets() {
			if _, err := tx.CreateBucketIfNotExists([]byte(b.String())); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: create buckets in %s: %w", f.path, err)
	}
	return nil
}

// noteFree writes the list of free pages with a last commit. Without it, as after a kill, the next start looks for them:
// a walk over all pages. It is what bolt does by itself, and etcd reads files with and without.
func (f *file) noteFree() error {
	f.stuck.Store(true) // as in commit
	err := guard(f, func(*bool) error {
		f.db.NoFreelistSync = false
		return f.db.Update(func(*bolt.Tx) error { return nil })
	})
	if corrupt := (*CorruptError)(nil); !errors.As(err, &corrupt) {
		f.stuck.Store(false)
	}
	if err != nil {
		return fmt.Errorf("store: write the list of free pages: %w", err)
	}
	return nil
}

// boltOptions are etcd's: the free list is not written at each commit but at the end, or else found again at start,
// which either program does for the other's files.
func boltOptions(o *Options) *bolt.Options {
	bo := &bolt.Options{
		Timeout:        lockWait,
		FreelistType:   bolt.FreelistMapType,
		NoFreelistSync: true,
		NoSync:         o.NoSync,
		NoGrowSync:     o.NoSync,
		Mlock:          o.Mlock,
	}
	if o.FreelistType == FreelistArray {
		bo.FreelistType = bolt.FreelistArrayType
	}
	if runtime.GOOS != "windows" && ^uint(0)>>32 != 0 {
		size := int64(mapBytes)
		bo.InitialMmapSize = int(size)
	}
	return bo
}

// openBolt opens a bolt file; what bolt panics about at open is damage too.
func openBolt(path string, bo *bolt.Options) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, &CorruptError{File: path, Offset: -1, Reason: fmt.Sprint(r)}
		}
	}()
	db, err = bolt.Open(path, fileMode, bo)
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrInUse, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, &CorruptError{File: path, Offset: 0, Reason: "no valid meta page", Err: err}
	}
	return nil, fmt.Errorf("store: open %s: %w", path, err)
}

// fault is what a runtime error of a memory access has beside its text.
type fault interface{ Addr() uintptr }

// guard runs read and turns what damage does to a reader of the mapped file into a CorruptError: bolt's
// panics, and memory faults where the file is shorter than its pages say, or the disk fails. read sets
// *outside while it runs a caller's function, whose own panics are passed on.
func guard(f *file, read func(outside *bool) error) (err error) {
	outside := false
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		corrupt := &CorruptError{File: f.path, Offset: -1, Reason: fmt.Sprint(r)}
		if fa, ok := r.(fault); ok {
			corrupt.Offset = f.offset(fa.Addr())
			corrupt.Err, _ = r.(error)
		} else if outside {
			panic(r)
		}
		err = corrupt
	}()
	return read(&outside)
}

// offset gives the place in the file of an address in its map, -1 where it is not in it.
func (f *file) offset(addr uintptr) int64 {
	base := f.db.Info().Data
	if addr < base || addr-base > mapBytes {
		return -1
	}
	return int64(addr - base)
}
