package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	bolt "go.etcd.io/bbolt"

	"keelson/internal/storage/schema"
)

// Snapshot is the whole file at one log index. It keeps the pages of its moment from being used again, so
// the file grows while it is open: close it soon.
type Snapshot struct {
	// Mark says which moment it is: Index is the consistent_index inside.
	Mark  Mark
	ctx   context.Context
	file  *file
	tx    *bolt.Tx
	close func() error
}

// Snapshot gives the file at an entry boundary at or past index, once the store has reached it. ctx bounds
// the wait and, later, how long WriteTo may take.
func (s *Store) Snapshot(ctx context.Context, index uint64) (*Snapshot, error) {
	if err := s.Sync(ctx, index); err != nil {
		return nil, err
	}
	f, err := s.files.acquire()
	if err != nil {
		return nil, err
	}
	snap := &Snapshot{ctx: ctx, file: f}
	err = guard(f, func(outside *bool) (err error) {
		if snap.tx, err = f.db.Begin(false); err != nil {
			return err
		}
		s.files.open.Add(1)
		snap.Mark, err = (&readTx{Tx: snap.tx, file: f, outside: outside}).mark()
		return err
	})
	snap.close = sync.OnceValue(func() error {
		var err error
		if snap.tx != nil {
			err = snap.tx.Rollback()
			s.files.open.Add(-1)
		}
		return errors.Join(err, s.files.release(f))
	})
	if err == nil && snap.Mark.Index < index {
		err = fmt.Errorf("store: snapshot at index %d wanted, the file was replaced by one at %d", index, snap.Mark.Index)
	}
	if err != nil {
		return nil, errors.Join(err, snap.close())
	}
	return snap, nil
}

// Get reads a key as of the snapshot: a copy of its value, nil where it is not there.
func (s *Snapshot) Get(bk schema.Bucket, key []byte) (value []byte, err error) {
	err = guard(s.file, func(*bool) error {
		if v := s.tx.Bucket([]byte(bk.String())).Get(key); v != nil {
			value = append(make([]byte, 0, len(v)), v...)
		}
		return nil
	})
	return value, err
}

// ForEach calls f for each key of a bucket as of the snapshot, in order. The bytes are f's only during the
// call. An error of f's ends it and is returned.
func (s *Snapshot) ForEach(bk schema.Bucket, f func(k, v []byte) error) error {
	return guard(s.file, func(outside *bool) error {
		return (&readTx{Tx: s.tx, file: s.file, outside: outside}).forEach(bk, f)
	})
}

// Size is the number of bytes that WriteTo writes.
func (s *Snapshot) Size() int64 { return s.tx.Size() }

// WriteTo writes the file to w: a bolt file without a checksum behind it. It reads through the file's
// handle, not its map, and stops with ctx's error once that is done.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := s.tx.WriteTo(boundedWriter{s.ctx, w})
	if ended := s.ctx.Err(); err != nil && ended != nil {
		err = ended // bolt passes on the text alone
	}
	if err != nil {
		return n, fmt.Errorf("store: write snapshot at index %d: %w", s.Mark.Index, err)
	}
	return n, nil
}

// Close lets go of the file. It may be called twice.
func (s *Snapshot) Close() error { return s.close() }

// boundedWriter ends a copy when its context does.
type boundedWriter struct {
	ctx context.Context
	w   io.Writer
}

func (b boundedWriter) Write(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.w.Write(p)
}

// Install replaces the file by the snapshot in file (a name in the store's FS, beside it in its
// directory), which is gone afterwards. What was appended and not committed is dropped, a compaction under
// way ends; snapshots that are being sent go on from the old file. The caller appends nothing meanwhile,
// and loads all state anew. A file that is damaged is refused and nothing has changed; any other error
// ends the store.
func (s *Store) Install(file string) error {
	from := s.fs.OSPath(file)
	if err := CheckFile(from, lockWait); err != nil {
		return err
	}
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if err := s.install(from); err != nil {
		err = fmt.Errorf("store: install snapshot %s: %w", file, err)
		s.fail(err)
		return err
	}
	return nil
}

func (s *Store) install(from string) error {
	path := s.fs.OSPath(s.name)
	if err := os.Rename(from, path); err != nil {
		return err
	}
	f, err := openFile(path, &s.o, func() error { return syncDir(s.fs, s.name) })
	if err != nil {
		return err
	}
	return s.adopt(f)
}
