package mvcc

import (
	"sync/atomic"
	"unsafe"

	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// tombstoneBit marks a delete in version.sub. A transaction's changes are far fewer than 2^31.
const tombstoneBit = 1 << 31

// version is one put or delete of a key: 32 bytes, of which a key that is written twice has two. main, sub and size
// never change. The encoded KeyValue is size bytes at kv, or kv is nil: a tombstone, or a value that was
// evicted. prev is what this version superseded; nil where there is nothing or where it was compacted.
type version struct {
	main int64
	kv   atomic.Pointer[byte]
	prev atomic.Pointer[version]
	size uint32
	sub  uint32
}

// set gives a fresh version its place and value. kv must have room for a byte even where it is empty (the
// records of --bump-revision are), as a nil pointer stands for an evicted value.
func (v *version) set(rev schema.Revision, kv []byte) {
	v.main, v.sub, v.size = rev.Main, uint32(rev.Sub), uint32(len(kv))
	v.kv.Store(unsafe.SliceData(kv))
}

func (v *version) setTombstone(rev schema.Revision) {
	v.main, v.sub = rev.Main, uint32(rev.Sub)|tombstoneBit
}

func (v *version) tombstone() bool { return v.sub&tombstoneBit != 0 }

func (v *version) rev() schema.Revision {
	return schema.Revision{Main: v.main, Sub: int64(v.sub &^ tombstoneBit)}
}

// value gives the encoded KeyValue; ok is false where it is not in memory. A value that is taken out meanwhile
// stays whole for who has it.
func (v *version) value() (kv []byte, ok bool) {
	p := v.kv.Load()
	if p == nil {
		return nil, false
	}
	return unsafe.Slice(p, v.size), true
}

// entry is a key's place in memory, the same in every tree that holds the key. The head is the newest version and never nil
// once the entry is in a tree.
type entry struct{ head atomic.Pointer[version] }

// at gives the version that a reader at rev sees, nil where the key is not live then. It passes over versions
// newer than rev, those not yet published among them.
func (e *entry) at(rev int64) *version {
	for v := e.head.Load(); v != nil; v = v.prev.Load() {
		if v.main > rev {
			continue
		}
		if v.tombstone() {
			return nil
		}
		return v
	}
	return nil
}

// live tells whether the key is live in the newest state; the writer's question.
func (e *entry) live() bool { return !e.head.Load().tombstone() }

// parse decodes a value that is in memory: encoded here, or checked when it was loaded.
func parse(kv []byte) wire.KeyValue {
	p, err := wire.ParseKeyValue(kv)
	if err != nil {
		panic("mvcc: a value in memory does not parse")
	}
	return p
}

// text views b as a string for a look-up; the string must not outlive the call.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
