package store

import (
	"bytes"
	"sync/atomic"
	"unsafe"

	bolt "go.etcd.io/bbolt"

	"keelson/internal/storage/schema"
)

const (
	// readersMax bounds the read transactions that are open at a time (snapshots and hashes have their own
	// callers' bounds): each keeps the pages of its moment from being used again.
	readersMax = 64
	// scanRevs and scanBytes bound what Scan reads in one transaction before it calls back: about a
	// watcher's piece of history, in memory twice at most.
	scanRevs  = 1000
	scanBytes = 1 << 20
	// scanForget is how much history is read before the pages that it came from are let go: a watcher that is far
	// behind would else bring the whole file into this process's memory. 16 pieces a madvise of some 4,000 pages.
	scanForget = 16 << 20
)

// reader reads the committed file. It is the part of a Store that needs nothing of what is queued.
type reader struct {
	files files
	slots chan struct{} // one a bounded read transaction, readersMax of them
	// scanned is how many bytes of history were read since pages were last let go.
	scanned atomic.Int64
}

// readTx is a read transaction of the file that was present when it began.
type readTx struct {
	*bolt.Tx
	file *file
	// outside is set while a caller's function runs (see guard).
	outside *bool
}

func (tx *readTx) bucket(b schema.Bucket) *bolt.Bucket { return tx.Bucket([]byte(b.String())) }

// corrupt says that the stored bytes at, which lie in the file's map, are not what they should be.
func (tx *readTx) corrupt(at []byte, err error) error {
	offset := int64(-1)
	if len(at) > 0 {
		offset = tx.file.offset(uintptr(unsafe.Pointer(unsafe.SliceData(at))))
	}
	return &CorruptError{File: tx.file.path, Offset: offset, Reason: err.Error(), Err: err}
}

// view runs f in one of the read transactions that readersMax bounds.
func (r *reader) view(f func(tx *readTx) error) error {
	r.slots <- struct{}{}
	defer func() { <-r.slots }()
	return r.viewLong(f)
}

// viewLong is view for callers that are few and long.
func (r *reader) viewLong(f func(tx *readTx) error) error {
	file, err := r.files.acquire()
	if err != nil {
		return err
	}
	defer func() { _ = r.files.release(file) }() // what closing a retired file answers changes nothing any more
	return guard(file, func(outside *bool) error {
		tx, err := file.db.Begin(false)
		if err != nil {
			return err
		}
		r.files.open.Add(1)
		defer func() {
			r.files.open.Add(-1)
			_ = tx.Rollback() // of a read transaction: cannot fail
		}()
		return f(&readTx{Tx: tx, file: file, outside: outside})
	})
}

// Get reads a key of the committed file: a copy of its value, nil where it is not there.
func (r *reader) Get(bk schema.Bucket, key []byte) ([]byte, error) {
	var value []byte
	err := r.view(func(tx *readTx) error {
		if v := tx.bucket(bk).Get(key); v != nil {
			value = append(make([]byte, 0, len(v)), v...)
		}
		return nil
	})
	return value, err
}

// ForEach calls f for each key of a bucket of the committed file, in order. The bytes are f's only during
// the call. An error of f's ends it and is returned.
func (r *reader) ForEach(bk schema.Bucket, f func(k, v []byte) error) error {
	return r.viewLong(func(tx *readTx) error { return tx.forEach(bk, f) })
}

func (tx *readTx) forEach(bk schema.Bucket, f func(k, v []byte) error) error {
	c := tx.bucket(bk).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		*tx.outside = true
		err := f(k, v)
		*tx.outside = false
		if err != nil {
			return err
		}
	}
	return nil
}

// LoadKeys calls f for every stored revision in order, as tools read them. kv, an encoded
// mvccpb.KeyValue (of a tombstone: with the key alone), is f's only during the call. What is no revision,
// and what f refuses, is damage: a *CorruptError.
func (r *reader) LoadKeys(f func(rev schema.Revision, tombstone bool, kv []byte) error) error {
	return r.viewLong(func(tx *readTx) error {
		readAhead(tx.Tx)
		defer forget(tx.Tx)
		return tx.revisions(nil, nil, f)
	})
}

// revisions calls f for every stored revision from the key at or behind from on, in order, up to but not with end (nil: to the
// last).
func (tx *readTx) revisions(from, end []byte, f func(rev schema.Revision, tombstone bool, kv []byte) error) error {
	c := tx.bucket(schema.Key).Cursor()
	for k, v := c.Seek(from); k != nil && (end == nil || less(k, end)); k, v = c.Next() {
		rev, tombstone, err := schema.ParseRevisionKey(k)
		if err != nil {
			return tx.corrupt(k, err)
		}
		*tx.outside = true
		err = f(rev, tombstone, v)
		*tx.outside = false
		if err != nil {
			return tx.corrupt(k, err)
		}
	}
	return nil
}

// Values gives a copy of what is stored at each of revs, in their order: encoded mvccpb.KeyValues, nil
// where a revision is not in the committed file.
func (r *reader) Values(revs []schema.Revision) ([][]byte, error) {
	values := make([][]byte, len(revs))
	err := r.view(func(tx *readTx) error {
		var (
			c    = tx.bucket(schema.Key).Cursor()
			want []byte
		)
		for i, rev := range revs {
			want = schema.AppendRevisionKey(want[:0], rev, false)
			if k, v := c.Seek(want); bytes.HasPrefix(k, want) {
				values[i] = append(make([]byte, 0, len(v)), v...)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// scanned is one revision that Scan has read.
type scanned struct {
	rev       schema.Revision
	tombstone bool
	kv        []byte
}

// Scan calls f for every revision of the committed file in [from, to), in order, until f answers false.
// No transaction is open during f, which may keep the bytes; so what a compaction deletes meanwhile may or
// may not be seen.
func (r *reader) Scan(from, to schema.Revision, f func(rev schema.Revision, tombstone bool, kv []byte) bool) error {
	for {
		part, next, err := r.scanPart(from, to)
		if err != nil {
			return err
		}
		for _, p := range part {
			if !f(p.rev, p.tombstone, p.kv) {
				return nil
			}
		}
		if next == from {
			return nil
		}
		from = next
	}
}

// scanPart reads a bounded piece of [from, to) and gives where the next one starts: from itself where
// nothing is left.
func (r *reader) scanPart(from, to schema.Revision) (part []scanned, next schema.Revision, err error) {
	next = from
	err = r.view(func(tx *readTx) error {
		var (
			c     = tx.bucket(schema.Key).Cursor()
			end   = schema.RevisionKey(to, false)
			bytes = 0
		)
		for k, v := c.Seek(schema.RevisionKey(from, false)); k != nil && less(k, end); k, v = c.Next() {
			rev, tombstone, err := schema.ParseRevisionKey(k)
			if err != nil {
				return tx.corrupt(k, err)
			}
			if len(part) == scanRevs || bytes > scanBytes {
				next = rev
				break
			}
			bytes += len(v)
			part = append(part, scanned{rev, tombstone, append(make([]byte, 0, len(v)), v...)})
		}
		if r.scanned.Add(int64(bytes)) > scanForget {
			r.scanned.Store(0)
			forget(tx.Tx)
		}
		return nil
	})
	return part, next, err
}

func less(a, b []byte) bool { return bytes.Compare(a, b) < 0 }
