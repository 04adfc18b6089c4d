package grpcproxy

import "sync/atomic"

const (
	// ringBatchesMax and ringBytesMax bound what one group keeps for those who come late: enough for the clients of a proxy
	// that starts anew and for one that pauses for a moment.
	ringBatchesMax = 1024
	ringBytesMax   = 1 << 20
	// ringsBytesMax bounds what all groups keep together.
	ringsBytesMax = 64 << 20
)

// ring is what a group has handed out last. Its group's lock guards it.
type ring struct {
	batches []*batch
	// floor is the revision after which everything is in the ring.
	floor int64
	bytes int
	total *atomic.Int64 // the bytes of all rings
}

func (r *ring) add(b *batch) {
	r.batches = append(r.batches, b)
	r.bytes += b.bytes
	over := r.total.Add(int64(b.bytes)) > ringsBytesMax
	drop := 0
	for drop < len(r.batches) && (over || len(r.batches)-drop > ringBatchesMax || r.bytes > ringBytesMax) {
		old := r.batches[drop]
		r.batches[drop] = nil
		r.floor = old.last
		r.bytes -= old.bytes
		r.total.Add(-int64(old.bytes))
		drop++
	}
	r.batches = r.batches[drop:]
}

// clear forgets all; the floor is for the caller to set.
func (r *ring) clear() {
	r.total.Add(-int64(r.bytes))
	r.batches, r.bytes = nil, 0
}
