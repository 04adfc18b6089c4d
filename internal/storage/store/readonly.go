package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"time"

	"github.com/coreos/go-semver/semver"
	bolt "go.etcd.io/bbolt"

	"keelson/internal/storage/schema"
)

// ReadOnly is a state file that is looked at and never changed: a saved snapshot (the checksum behind it does no
// harm), a copy, or the file of a member that does not run. It holds a shared lock: other readers go on, and a member
// cannot start on it.
type ReadOnly struct {
	reader
	path string
}

// OpenReadOnly checks the structure of the file at path and opens it. It waits for another process to let go of the
// file for at most wait (0: for ever), then answers ErrInUse; *CorruptError where the file is damaged, or none of etcd's.
func OpenReadOnly(path string, wait time.Duration) (*ReadOnly, error) {
	if err := CheckFile(path, wait); err != nil {
		return nil, err
	}
	r, err := openUnchecked(path, wait)
	if err != nil {
		return nil, err
	}
	err = r.view(func(tx *readTx) error {
		for _, b := range []schema.Bucket{schema.Key, schema.Meta} {
			if tx.bucket(b) == nil {
				return &CorruptError{File: path, Offset: -1, Reason: fmt.Sprintf("it has no bucket %q: it is no state file of etcd's", b)}
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// openUnchecked is OpenReadOnly of a file that is believed to be whole.
func openUnchecked(path string, wait time.Duration) (*ReadOnly, error) {
	f, err := openMapped(path, &bolt.Options{ReadOnly: true, Timeout: wait, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	r := &ReadOnly{path: path, reader: reader{slots: make(chan struct{}, readersMax)}}
	if err := r.files.swap(f); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	return r, nil
}

// ReadMark tells how far the state file at path is. It does not look at the rest of it: whoever goes on to use the file
// checks it.
func ReadMark(path string) (Mark, error) {
	r, err := openUnchecked(path, lockWait)
	if err != nil {
		return Mark{}, err
	}
	m, err := r.readMark()
	return m, errors.Join(err, r.Close())
}

// Mark tells how far the file is.
func (r *ReadOnly) Mark() (Mark, error) { return r.readMark() }

// Close lets go of the file.
func (r *ReadOnly) Close() error { return r.files.swap(nil) }

// Revisions gives the newest revision of the file and the one that it is compacted at, -1 where it never was. A
// compaction that was decided and not finished counts, as it would for a member that starts on the file.
func (r *ReadOnly) Revisions() (rev, compactRev int64, err error) {
	err = r.view(func(tx *readTx) error {
		m, err := tx.mark()
		if err != nil {
			return err
		}
		finished, err := tx.rev(schema.FinishedCompactKey)
		if err != nil {
			return err
		}
		scheduled, err := tx.rev(schema.ScheduledCompactKey)
		if err != nil {
			return err
		}
		// A store without any key is at revision 1.
		rev, compactRev = max(m.Rev, scheduled, 1), max(finished, scheduled)
		if compactRev == 0 {
			compactRev = -1
		}
		return nil
	})
	return rev, compactRev, err
}

// Summary is what `etcdutl snapshot status` tells of a file.
type Summary struct {
	// Hash is CRC-32C over all buckets' names, keys and values, unlike Store.Hash without exception.
	Hash uint32
	// Rev is the newest revision.
	Rev int64
	// Keys is the number of keys that are live at it.
	Keys int
	// Size is the length of the file in bytes, without what follows its last page.
	Size int64
	// Version is the storage version, such as "3.7.0"; empty before 3.6.
	Version string
}

// Summary reads the whole file.
func (r *ReadOnly) Summary(ctx context.Context) (Summary, error) {
	var s Summary
	err := r.viewLong(func(tx *readTx) error {
		defer forget(tx.Tx)
		s.Size = tx.Size()
		if v, err := semver.NewVersion(string(tx.bucket(schema.Meta).Get(schema.StorageVersionKey))); err == nil {
			s.Version = v.String()
		}
		w := summer{ctx: ctx, tx: tx, live: make(map[keySum]struct{}), seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
		names := tx.Cursor()
		for name, _ := names.First(); name != nil; name, _ = names.Next() {
			if err := w.bucket(name); err != nil {
				return err
			}
		}
		s.Hash, s.Rev, s.Keys = w.sum, w.rev, len(w.live)
		return nil
	})
	return s, err
}

// summer walks the buckets for a Summary.
type summer struct {
	ctx   context.Context
	tx    *readTx
	seeds [2]maphash.Seed
	live  map[keySum]struct{}
	sum   uint32
	rev   int64
	n     int
}

func (w *summer) bucket(name []byte) error {
	table := crc32.MakeTable(crc32.Castagnoli)
	w.sum = crc32.Update(w.sum, table, name)
	keys := bytes.Equal(name, []byte(schema.Key.String()))
	b := w.tx.Tx.Bucket(name)
	if b == nil {
		return w.tx.corrupt(name, errors.New("a key beside the buckets"))
	}
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if w.n++; w.n%hashCheckEvery == 0 && w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		w.sum = crc32.Update(crc32.Update(w.sum, table, k), table, v)
		if !keys {
			continue
		}
		if err := w.key(k, v); err != nil {
			return w.tx.corrupt(k, err)
		}
	}
	return nil
}

func (w *summer) key(k, v []byte) error {
	rev, tombstone, err := schema.ParseRevisionKey(k)
	if err != nil {
		return err
	}
	key, err := keyOf(v)
	if err != nil {
		return err
	}
	w.rev = rev.Main
	sum := keySum{maphash.Bytes(w.seeds[0], key), maphash.Bytes(w.seeds[1], key)}
	if tombstone {
		delete(w.live, sum)
	} else {
		w.live[sum] = struct{}{}
	}
	return nil
}
