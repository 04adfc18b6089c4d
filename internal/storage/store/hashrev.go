package store

import (
	"bytes"
	"context"
	"errors"

	"keelson/internal/storage/schema"
)

const (
	// hashPieceRevs and hashPieceBytes bound what a hash reads in one transaction: some 5 ms, after which what others
	// freed meanwhile can be used again.
	hashPieceRevs  = hashCheckEvery
	hashPieceBytes = 4 << 20
	// hashTries is how often a hash that a compaction disturbs begins anew, before it is made in one transaction.
	hashTries = 4
)

// errCompactedMeanwhile ends a hash in pieces whose file was compacted further.
var errCompactedMeanwhile = errors.New("store: compacted while it was hashed")

// KVHash is a HashKV with what it holds for.
type KVHash struct {
	Hash uint32
	// Rev is the revision up to which was hashed. The file was compacted at CompactRev (-1: never) and at Current then.
	Rev, CompactRev, Current int64
	// Twin is what a member answers for the same data that was compacted at Rev since, or is not yet, as this one is: Hash, but
	// where no key is live at Rev and one was deleted at it. There etcd 3.7 hashes otherwise at a compaction than for a question.
	Twin uint32
}

// Holds tells whether the revision asked for is there: otherwise it is ahead of Current, or compacted, and Hash is nothing.
func (h KVHash) Holds() bool { return h.Rev <= h.Current && (h.Rev < 0 || h.Rev >= h.CompactRev) }

// HashAt gives the HashKV of the committed file up to rev, 0 for all. The compaction that it tells is the file's own, read
// with the revisions: memory may know a newer one, of which the file has nothing yet, or an older view's, of which the file
// has lost revisions already; a hash under either would differ from other members' without any damage.
//
// It reads in pieces. Revisions never change but by compactions, so that pieces of several moments add up as long as the
// file's compaction is the same in all; what that one has deleted between two of them is left out of the sum anyway.
//
// What it proves: that the bytes which a restart, history and snapshots are read from are those of who has an equal hash.
// Reads of the present come from memory, which was made of these bytes at start and of the log since: an equal hash says
// nothing about a fault of the memory, and one that differs need not show in answers until the member starts again.
func (r *reader) HashAt(ctx context.Context, rev int64) (KVHash, error) {
	for range hashTries {
		h, err := r.hashInPieces(ctx, rev)
		if !errors.Is(err, errCompactedMeanwhile) {
			return h, err
		}
	}
	var got KVHash
	err := r.viewLong(func(tx *readTx) error {
		defer forget(tx.Tx)
		h, _, err := tx.hashable(rev)
		if err != nil || !h.Holds() {
			got = h
			return err
		}
		k := kvHasher{ctx: ctx, tx: tx, rev: max(h.Rev, 0), compactRev: h.CompactRev}
		h.Hash, h.Twin, err = k.sum()
		got = h
		return err
	})
	return got, err
}

// hashable gives what a hash up to rev would hold for, and the compaction that has left the file.
func (tx *readTx) hashable(rev int64) (h KVHash, finished int64, err error) {
	m, err := tx.mark()
	if err != nil {
		return h, 0, err
	}
	if finished, err = tx.rev(schema.FinishedCompactKey); err != nil {
		return h, 0, err
	}
	scheduled, err := tx.rev(schema.ScheduledCompactKey)
	if err != nil {
		return h, 0, err
	}
	// A store without any key is at revision 1.
	h = KVHash{Rev: rev, CompactRev: max(finished, scheduled), Current: max(m.Rev, scheduled, 1)}
	if h.CompactRev == 0 {
		h.CompactRev = -1
	}
	if rev == 0 {
		h.Rev = h.Current
	}
	return h, finished, nil
}

func (r *reader) hashInPieces(ctx context.Context, rev int64) (KVHash, error) {
	var (
		h        KVHash
		finished int64
	)
	err := r.view(func(tx *readTx) (err error) {
		h, finished, err = tx.hashable(rev)
		return err
	})
	if err != nil || !h.Holds() {
		return h, err
	}
	k := &kvHasher{ctx: ctx, rev: max(h.Rev, 0), compactRev: h.CompactRev, finished: finished}
	k.pieces = func(from int64, f visit) error { return r.walkPieces(k, from, f) }
	h.Hash, h.Twin, err = k.sum()
	return h, err
}

// walkPieces walks as kvHasher.walk does, in many transactions.
func (r *reader) walkPieces(k *kvHasher, from int64, f visit) error {
	end := schema.RevisionKey(schema.Revision{Main: k.rev + 1}, false)
	next := schema.RevisionKey(schema.Revision{Main: from}, false)
	for next != nil {
		if err := k.ctx.Err(); err != nil {
			return err
		}
		err := r.view(func(tx *readTx) (err error) {
			now, _, err := tx.hashable(0)
			if err == nil && now.CompactRev != k.compactRev {
				err = errCompactedMeanwhile
			}
			if err != nil {
				return err
			}
			k.tx = tx
			next, err = r.walkPiece(tx, next, end, f)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// walkPiece walks one piece and gives the key to go on at, nil at the end.
func (r *reader) walkPiece(tx *readTx, from, end []byte, f visit) (next []byte, err error) {
	revs, size := 0, 0
	c := tx.bucket(schema.Key).Cursor()
	for k, v := c.Seek(from); k != nil && bytes.Compare(k, end) < 0; k, v = c.Next() {
		if revs == hashPieceRevs || size > hashPieceBytes {
			next = bytes.Clone(k)
			break
		}
		revs, size = revs+1, size+len(k)+len(v)
		rev, tombstone, err := schema.ParseRevisionKey(k)
		if err != nil {
			return nil, tx.corrupt(k, err)
		}
		if err := f(rev, tombstone, k, v); err != nil {
			return nil, err
		}
	}
	if r.scanned.Add(int64(size)) > scanForget {
		r.scanned.Store(0)
		forget(tx.Tx)
	}
	return next, nil
}
