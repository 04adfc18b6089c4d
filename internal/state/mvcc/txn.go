package mvcc

import (
	"context"
	"encoding/binary"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// Txn is one entry's writes: they share a revision, and its reads see them. Every begun Txn is ended before
// the next begins; it cannot be undone.
type Txn struct {
	s       *Store
	changes []Change
	done    int // operations so far
}

// Begin starts the store's one transaction.
func (s *Store) Begin() *Txn {
	s.txn = Txn{s: s}
	return &s.txn
}

// Rev is the revision that an answer made now carries: one more than before once something was written.
func (t *Txn) Rev() int64 {
	if len(t.changes) > 0 {
		return t.s.rev + 1
	}
	return t.s.rev
}

func (t *Txn) next() schema.Revision {
	return schema.Revision{Main: t.s.rev + 1, Sub: int64(len(t.changes))}
}

// Get gives the key's newest encoded KeyValue; ok is false where it is not live.
func (t *Txn) Get(key []byte) (kv []byte, ok bool) {
	t.done++
	t.s.counts.Ranges.Add(1)
	e := t.s.tree.root.get(text(key))
	if e == nil {
		return nil, false
	}
	return e.head.Load().value()
}

// Range reads at Rev, or at an older revision. Values that left memory are read from the history at once: the
// one place where the writer may wait for the disk.
func (t *Txn) Range(o RangeOptions) (RangeResult, error) {
	t.done++
	t.s.counts.Ranges.Add(1)
	st := t.s.at(t.Rev())
	return st.read(context.Background(), o)
}

// Put writes key. It gives the revision of the write and the encoded KeyValue that it superseded, nil where the
// key was not live.
func (t *Txn) Put(key, value []byte, leaseID int64) (rev int64, prev []byte) {
	s := t.s
	t.done++
	s.counts.Puts.Add(1)
	s.counts.PutBytes.Add(int64(len(key) + len(value)))
	at := t.next()
	next := wire.KeyValue{Key: key, Value: value, Create: at.Main, Mod: at.Main, Version: 1, Lease: leaseID}
	var old *version
	var prevLease int64
	e := s.tree.root.get(text(key))
	if e != nil {
		old = e.head.Load()
		if !old.tombstone() {
			prev, _ = old.value()
			was := parse(prev)
			next.Create, next.Version, prevLease = was.Create, was.Version+1, was.Lease
		}
	}
	kv := wire.AppendKeyValue(make([]byte, 0, wire.SizeKeyValue(next)), next)
	v := &version{}
	v.set(at, kv)
	switch {
	case e == nil:
		e = &entry{}
		e.head.Store(v)
		s.tree.insert(string(key), e)
	default:
		v.prev.Store(old)
		e.head.Store(v)
		s.superseded.push(v)
		if prev == nil {
			s.tree.adjust(text(key), 1)
		}
	}
	t.changes = append(t.changes, Change{
		Rev: at, Key: keyOf(kv), KV: kv, Prev: prev, Lease: leaseID, PrevLease: prevLease,
	})
	return at.Main, prev
}

// DeleteRange deletes the live keys of [key, end), in their order. It gives how many there were and their
// encoded KeyValues. Where there is none nothing is written.
func (t *Txn) DeleteRange(key, end []byte) (n int64, prevs [][]byte) {
	s := t.s
	t.done++
	s.counts.Deletes.Add(1)
	if one(end) {
		if e := s.tree.root.get(text(key)); e != nil && e.live() {
			return 1, [][]byte{t.delete(string(key), e)}
		}
		return 0, nil
	}
	var found []item
	w := walk{span: spanOf(key, end), skipDead: true, f: func(items []item) bool {
		for _, it := range items {
			if it.e.live() {
				found = append(found, it)
			}
		}
		return true
	}}
	w.over(s.tree.root)
	for _, it := range found {
		prevs = append(prevs, t.delete(it.key, it.e))
	}
	return int64(len(found)), prevs
}

// delete writes a tombstone over a live key and gives what it superseded.
func (t *Txn) delete(key string, e *entry) (prev []byte) {
	s := t.s
	at := t.next()
	old := e.head.Load()
	prev, _ = old.value()
	v := &version{}
	v.setTombstone(at)
	v.prev.Store(old)
	e.head.Store(v)
	s.superseded.push(v)
	s.deleted.push(grave{v, e, key})
	s.tree.adjust(key, -1)

	event := wire.KeyValue{Key: []byte(key), Mod: at.Main}
	kv := wire.AppendKeyValue(make([]byte, 0, wire.SizeKeyValue(event)), event)
	t.changes = append(t.changes, Change{
		Rev: at, Delete: true, Key: keyOf(kv), KV: kv, Prev: prev, PrevLease: parse(prev).Lease,
	})
	return prev
}

// End closes the transaction. It gives what was written, nil where nothing was; else the store is one
// revision on. The changes are the caller's to keep.
func (t *Txn) End() []Change {
	changes := t.changes
	t.changes = nil
	if t.done > 1 {
		t.s.counts.Txns.Add(1)
	}
	if len(changes) > 0 {
		t.s.rev++
	}
	return changes
}

// keyOf gives the key of a KeyValue that was encoded here.
func keyOf(kv []byte) []byte {
	field := keyField(kv)
	if field == nil {
		return nil
	}
	_, w := binary.Uvarint(field[1:])
	return field[1+w:]
}

// keyField gives the first field of a KeyValue that was encoded here: tag, length, key. An empty key has none.
func keyField(kv []byte) []byte {
	const keyTag = 0x0a
	if len(kv) == 0 || kv[0] != keyTag {
		return nil
	}
	n, w := binary.Uvarint(kv[1:])
	end := 1 + w + int(n)
	return kv[:end:end]
}

// Stored gives the bytes that the store keeps: a put's as they are, of a delete's the key alone, the first of its
// two fields.
func (c *Change) Stored() []byte {
	if c.Delete {
		return keyField(c.KV)
	}
	return c.KV
}
