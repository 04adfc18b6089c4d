package server

import (
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/storage/store"
)

// Quota sizes and costs are etcd's.
const (
	quotaBytesDefault = 2 << 30
	// A key costs more than its bytes: its revision, its index entry, its share of a page.
	putOverheadBytes = 256
	leaseCostBytes   = 64 + 16
)

// quota refuses what would grow the store past its bound, before it is proposed: deletes, compactions and revocations
// always pass.
type quota struct {
	store *store.Store
	// diskFull is set while the log's next segment can't be allocated: growth is refused before an append fails,
	// which would stop the member.
	diskFull *atomic.Bool
	// bytesMax is 0 where there is no quota.
	bytesMax int64
}

// newQuota takes --quota-backend-bytes: 0 is the default, less is no quota.
func newQuota(s *store.Store, diskFull *atomic.Bool, asked int64) *quota {
	q := &quota{store: s, diskFull: diskFull, bytesMax: max(asked, 0)}
	if asked == 0 {
		q.bytesMax = quotaBytesDefault
	}
	return q
}

// allow tells whether something that costs so many bytes may be proposed. A cost of 0 always may.
func (q *quota) allow(cost int64) error {
	if cost > 0 && q.diskFull.Load() {
		return ErrNoSpace
	}
	if q.bytesMax == 0 || cost == 0 || q.store.Size()+q.store.Pending()+cost < q.bytesMax {
		return nil
	}
	return ErrNoSpace
}

func putCost(r *pb.PutRequest) int64 {
	return putOverheadBytes + int64(len(r.Key)) + int64(len(r.Value))
}

// txnCost is the cost of the dearer branch.
func txnCost(r *pb.TxnRequest) int64 {
	return max(opsCost(r.GetSuccess()), opsCost(r.GetFailure()))
}

func opsCost(ops []*pb.RequestOp) int64 {
	var cost int64
	for _, op := range ops {
		if p := op.GetRequestPut(); p != nil {
			cost += putCost(p)
		}
		if t := op.GetRequestTxn(); t != nil {
			cost += txnCost(t)
		}
	}
	return cost
}
