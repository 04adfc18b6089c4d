package store

import (
	"errors"
	"time"

	bolt "go.etcd.io/bbolt"

	"keelson/internal/storage/schema"
)

// mapBytesMax is the most address space that EditFile reserves for a file: a quarter of what a process has on the
// 64-bit systems with the least.
const mapBytesMax = 1 << 45

// Edit is a write transaction of a state file that no member has open: for the tools that prepare a directory.
type Edit struct{ tx *readTx }

// EditFile checks the file at path, makes the buckets that it lacks, and runs change in one transaction, which is
// durable when EditFile answers without an error and has not happened else. It waits for another process to let go of
// the file for at most wait (0: for ever), then answers ErrInUse. mapSize is the address space to reserve for the file
// (0: 10 GiB).
func EditFile(path string, wait time.Duration, mapSize uint64, change func(*Edit) error) (err error) {
	if err := CheckFile(path, wait); err != nil {
		return err
	}
	bo := boltOptions(&Options{})
	bo.Timeout = wait
	if mapSize != 0 && bo.InitialMmapSize != 0 { // not where a file is as long as its map
		bo.InitialMmapSize = int(min(mapSize, mapBytesMax))
	}
	db, err := openBolt(path, bo)
	if err != nil {
		return err
	}
	f := &file{db: db, path: path}
	defer func() {
		if !f.stuck.Load() {
			err = errors.Join(err, db.Close())
		}
	}()
	if err := f.createBuckets(); err != nil {
		return err
	}
	return f.edit(change)
}

// MakeFile makes a state file at path with nothing in it but what change writes. Its directory must be there; a caller to
// whom the name's durability matters syncs it.
func MakeFile(path string, change func(*Edit) error) error {
	if err := createFile(path, &Options{}); err != nil {
		return err
	}
	return EditFile(path, lockWait, 0, change)
}

func (f *file) edit(change func(*Edit) error) error {
	f.stuck.Store(true) // as in commit
	err := guard(f, func(outside *bool) error {
		return f.db.Update(func(tx *bolt.Tx) error {
			*outside = true
			defer func() { *outside = false }()
			return change(&Edit{&readTx{Tx: tx, file: f, outside: outside}})
		})
	})
	var corrupt *CorruptError
	f.stuck.Store(errors.As(err, &corrupt))
	return err
}

// own runs what calls bolt: its panics are damage, those of the caller of Edit are not.
func (e *Edit) own(f func() error) error {
	*e.tx.outside = false
	err := f()
	*e.tx.outside = true
	return err
}

// Get reads a key: a copy of its value, nil where it is not there.
func (e *Edit) Get(bk schema.Bucket, key []byte) (value []byte, err error) {
	err = e.own(func() error {
		if v := e.tx.bucket(bk).Get(key); v != nil {
			value = append(make([]byte, 0, len(v)), v...)
		}
		return nil
	})
	return value, err
}

// ForEach calls f for each key of a bucket, in order. The bytes are f's only during the call; f may not write. An error of
// f's ends it and is returned.
func (e *Edit) ForEach(bk schema.Bucket, f func(k, v []byte) error) error {
	return e.own(func() error { return e.tx.forEach(bk, f) })
}

// Put writes a key.
func (e *Edit) Put(bk schema.Bucket, key, value []byte) error {
	return e.own(func() error { return e.tx.bucket(bk).Put(key, value) })
}

// Delete removes a key, if it is there.
func (e *Edit) Delete(bk schema.Bucket, key []byte) error {
	return e.own(func() error { return e.tx.bucket(bk).Delete(key) })
}

// Clear removes all keys of a bucket.
func (e *Edit) Clear(bk schema.Bucket) error {
	return e.own(func() error {
		name := []byte(bk.String())
		if err := e.tx.DeleteBucket(name); err != nil {
			return err
		}
		_, err := e.tx.CreateBucket(name)
		return err
	})
}

// LastRev gives the newest revision in the file, 0 where it has none.
func (e *Edit) LastRev() (rev int64, err error) {
	err = e.own(func() error {
		m, err := e.tx.mark()
		rev = m.Rev
		return err
	})
	return rev, err
}
