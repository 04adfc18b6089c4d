package store

import (
	"bytes"
	"context"
	"hash/crc32"
	"hash/maphash"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// hashCheckEvery is how many revisions a hash reads between two looks at its context: about 1 ms.
const hashCheckEvery = 8192

// CompactionHash is the hash of all revisions up to Rev, taken just before the compaction at Rev deleted
// some of them; CompactRev is the compaction before it, -1 where there was none. Members compare them.
type CompactionHash struct {
	Hash            uint32
	Rev, CompactRev int64
	// Twin is what a member that was not compacted at Rev yet answers for the same data: Hash, but in the rare case that
	// KVHash's Twin tells of.
	Twin uint32
}

// Hash gives etcd's hash of the whole file, as it is once everything appended before the call is in it:
// each bucket's name and all its keys and values but those that move by themselves.
func (s *Store) Hash(ctx context.Context) (hash uint32, m Mark, err error) {
	if err := s.queue.settled(ctx); err != nil {
		return 0, Mark{}, err
	}
	known := make(map[string]schema.Bucket)
	for _, b := range schema.Buckets() {
		known[b.String()] = b
	}
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	err = s.viewLong(func(tx *readTx) error {
		defer forget(tx.Tx)
		if m, err = tx.mark(); err != nil {
			return err
		}
		n, names := 0, tx.Cursor()
		for name, _ := names.First(); name != nil; name, _ = names.Next() {
			b := known[string(name)]
			h.Write(name)
			c := tx.Tx.Bucket(name).Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if n++; n%hashCheckEvery == 0 && ctx.Err() != nil {
					return ctx.Err()
				}
				if !schema.NotHashed(b, k) {
					h.Write(k)
					h.Write(v)
				}
			}
		}
		return nil
	})
	return h.Sum32(), m, err
}

// HashKV gives etcd's hash of the revisions up to rev as a member sees them that was compacted at
// compactRev (-1: never). The caller has synced the store past rev.
//
// It is CRC-32C over the name of bucket key, then key and value of each revision in order. One at or below
// compactRev counts only if it is its key's live latest as of rev, unless no key is live at rev, when all
// count; a tombstone exactly at compactRev never does. So members agree whether or not they have deleted yet.
// Nothing is at or before a negative rev.
func (r *reader) HashKV(ctx context.Context, rev, compactRev int64) (hash uint32, err error) {
	err = r.viewLong(func(tx *readTx) (err error) {
		defer forget(tx.Tx)
		h := kvHasher{ctx: ctx, tx: tx, rev: max(rev, 0), compactRev: compactRev}
		hash, _, err = h.sum()
		return err
	})
	return hash, err
}

// CompactionHash gives the hash that was taken at the compaction at rev, if that is one of the last ten
// since start. etcd answers a question for exactly such a revision with it.
func (s *Store) CompactionHash(rev int64) (CompactionHash, bool) {
	for _, h := range s.CompactionHashes() {
		if h.Rev == rev {
			return h, true
		}
	}
	return CompactionHash{}, false
}

// CompactionHashes lists the hashes of the last ten compactions since start, oldest first.
func (s *Store) CompactionHashes() []CompactionHash {
	s.compact.mu.Lock()
	defer s.compact.mu.Unlock()
	return append([]CompactionHash(nil), s.compact.hashes...)
}

// kvHasher computes a HashKV in two passes: which key was last changed when, then the sum.
type kvHasher struct {
	ctx             context.Context
	tx              *readTx
	rev, compactRev int64
	// tombstoneLives: a tombstone at rev itself counts as something live, as it does for the hash that is
	// taken at a compaction.
	tombstoneLives bool
	// pause, if set, is called every hashCheckEvery revisions: a hash in the background leaves time to others.
	pause func() error
	// pieces, if set, walks in transactions of its own in place of tx; finished is then the compaction that has left the file.
	pieces   func(from int64, f visit) error
	finished int64

	seeds [2]maphash.Seed
	// last is the newest change of each key in (from, rev].
	last map[keySum]lastChange
	n    int
	// read is how many bytes were read since pages were last let go.
	read int
}

// keySum stands for a key: 128 bits of two seeded hashes, so that a long walk needs no copies of keys and
// two keys of a billion share one with a probability below 2^-68.
type keySum [2]uint64

type lastChange struct {
	rev       schema.Revision
	tombstone bool
}

// sum gives the hash, and the one that a hasher with the other tombstoneLives would give.
func (h *kvHasher) sum() (hash, twin uint32, err error) {
	h.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	h.last = make(map[keySum]lastChange)
	if h.compactRev < 0 {
		sum, _, err := h.pass(false)
		return sum, sum, err
	}
	live, buried, err := h.findLast()
	if err != nil {
		return 0, 0, err
	}
	sum, counted, err := h.pass(true)
	if err != nil || live || counted {
		return sum, sum, err
	}
	// All that the compaction leaves counts, also where it has not deleted the rest yet.
	clear(h.last)
	rev := h.rev
	h.rev = min(rev, h.compactRev)
	err = h.walk(0, h.note)
	h.rev = rev
	if err != nil {
		return 0, 0, err
	}
	all, _, err := h.pass(true)
	switch {
	case !buried:
		return all, all, err
	case h.tombstoneLives:
		return sum, all, err
	}
	return all, sum, err
}

// findLast fills last, and tells whether a key changed in that span is live at rev, and whether one was deleted at rev itself.
// Where the compaction at compactRev has finished, each key has at most one revision at or below it, and the walk starts above.
func (h *kvHasher) findLast() (live, buried bool, err error) {
	finished := h.finished
	if h.pieces == nil {
		if finished, err = h.tx.rev(schema.FinishedCompactKey); err != nil {
			return false, false, err
		}
	}
	from := int64(0)
	if finished >= h.compactRev {
		from = h.compactRev + 1
	}
	err = h.walk(from, h.note)
	for _, l := range h.last {
		live = live || !l.tombstone
		buried = buried || l.tombstone && l.rev.Main == h.rev
	}
	return live, buried, err
}

// note keeps the newest change of a key.
func (h *kvHasher) note(rev schema.Revision, tombstone bool, k, v []byte) error {
	sum, err := h.keySum(k, v)
	if err != nil {
		return err
	}
	h.last[sum] = lastChange{rev, tombstone}
	return nil
}

func (h *kvHasher) keySum(k, v []byte) (keySum, error) {
	key, err := keyOf(v)
	if err != nil {
		return keySum{}, h.tx.corrupt(k, err)
	}
	return keySum{maphash.Bytes(h.seeds[0], key), maphash.Bytes(h.seeds[1], key)}, nil
}

// keyOf gives the key of an encoded mvccpb.KeyValue, which is its first field.
func keyOf(kv []byte) ([]byte, error) {
	if len(kv) > 1 && kv[0] == 0x0a && kv[1] < 0x80 && 2+int(kv[1]) <= len(kv) {
		return kv[2 : 2+int(kv[1])], nil
	}
	decoded, err := wire.ParseKeyValue(kv)
	return decoded.Key, err
}

// pass sums the revisions up to rev, leaving out those that compaction makes dead if filter is set, and
// tells whether one at or below compactRev was counted.
func (h *kvHasher) pass(filter bool) (sum uint32, counted bool, err error) {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum = crc32.Update(0, table, []byte(schema.Key.String()))
	err = h.walk(0, func(rev schema.Revision, tombstone bool, k, v []byte) error {
		if filter && rev.Main <= h.compactRev {
			key, err := h.keySum(k, v)
			if err != nil {
				return err
			}
			if l, ok := h.last[key]; tombstone || ok && l.rev != rev {
				return nil
			}
			counted = true
		}
		if tombstone && rev.Main == h.compactRev {
			return nil
		}
		sum = crc32.Update(crc32.Update(sum, table, k), table, v)
		return nil
	})
	return sum, counted, err
}

// visit is called for one revision. The bytes of k and v, as they are stored, are its only during the call.
type visit func(rev schema.Revision, tombstone bool, k, v []byte) error

// walk calls f for the revisions whose Main is in [from, rev], in order.
func (h *kvHasher) walk(from int64, f visit) error {
	if h.pieces != nil {
		return h.pieces(from, f)
	}
	c := h.tx.bucket(schema.Key).Cursor()
	end := schema.RevisionKey(schema.Revision{Main: h.rev + 1}, false)
	for k, v := c.Seek(schema.RevisionKey(schema.Revision{Main: from}, false)); k != nil && bytes.Compare(k, end) < 0; k, v = c.Next() {
		h.read += len(k) + len(v)
		if h.n++; h.n%hashCheckEvery == 0 {
			if err := h.breathe(); err != nil {
				return err
			}
		}
		rev, tombstone, err := schema.ParseRevisionKey(k)
		if err != nil {
			return h.tx.corrupt(k, err)
		}
		if err := f(rev, tombstone, k, v); err != nil {
			return err
		}
	}
	return nil
}

// breathe looks up from the walk: whether it should go on, and what can be let go.
func (h *kvHasher) breathe() error {
	if h.read > scanForget {
		h.read = 0
		forget(h.tx.Tx)
	}
	if h.pause != nil {
		if err := h.pause(); err != nil {
			return err
		}
	}
	return h.ctx.Err()
}
