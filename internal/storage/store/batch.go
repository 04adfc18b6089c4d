package store

import "keelson/internal/storage/schema"

// Op is one put or delete of a key in a bucket.
type Op struct {
	Bucket     schema.Bucket
	Key, Value []byte
	Delete     bool
}

// Batch is the work of one applied entry, or of several whole ones in log order: it is committed entirely
// or not at all, together with the index and term that it reaches. Its bytes are shared with memory and
// with watchers and are never changed.
type Batch struct {
	// Index and Term are those of the last entry in it.
	Index, Term uint64
	// Rev is the highest main revision in it, 0 where it has none.
	Rev int64
	Ops []Op
}

// opBytes is what an Op costs in memory beside its key and value, so that many small ones count too.
const opBytes = 80

// Put adds a put. Key and value must not change any more.
func (b *Batch) Put(bk schema.Bucket, key, value []byte) {
	b.Ops = append(b.Ops, Op{Bucket: bk, Key: key, Value: value})
}

// Delete adds a delete; the key need not be there.
func (b *Batch) Delete(bk schema.Bucket, key []byte) {
	b.Ops = append(b.Ops, Op{Bucket: bk, Key: key, Delete: true})
}

// size is what the batch counts for against Options.PendingBytesMax.
func (b *Batch) size() int64 {
	n := opBytes * (1 + len(b.Ops))
	for i := range b.Ops {
		n += len(b.Ops[i].Key) + len(b.Ops[i].Value)
	}
	return int64(n)
}

// Mark says how far a file is: the last log entry in it, that entry's term, and the highest main revision.
type Mark struct {
	Index, Term uint64
	Rev         int64
}
