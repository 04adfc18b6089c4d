package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/storage/store"
)

// Quota sizes and costs are etcd's.
const (
	quotaBytesDefault = 2 << 30
	// quotaBytesAdvised is the largest quota that goes without a warning: starts, snapshots and defragmentations take
	// time by the size of the file.
	quotaBytesAdvised = 8 << 30
	// A key costs more than its bytes: its revision, its index entry, its share of a page.
	putOverheadBytes = 256
	leaseCostBytes   = 64
)

// quota refuses what would grow the store past its bound, before it is proposed: deletes, compactions and revocations
// always pass. Who is refused so has raised the member's NOSPACE alarm, which then refuses at every member, as it is
// applied: the quota itself is local and can't be looked at there.
type quota struct {
	store  *store.Store
	alarms *Alarmer
	logger *zap.Logger
	// diskFull is set while the log's next segment can't be allocated: growth is refused before an append fails,
	// which would stop the member. No alarm is raised for it, since it ends by itself.
	diskFull *atomic.Bool
	// bytesMax is 0 where there is no quota. told is the same as status tells it: less than 0 where there is none.
	bytesMax, told int64
}

// newQuota takes --quota-backend-bytes: 0 is the default, less is no quota. The log's lines are etcd's.
func newQuota(s *store.Store, alarms *Alarmer, diskFull *atomic.Bool, asked int64, logger *zap.Logger) *quota {
	q := &quota{store: s, alarms: alarms, logger: logger, diskFull: diskFull, bytesMax: max(asked, 0), told: asked}
	if asked == 0 {
		q.bytesMax, q.told = quotaBytesDefault, quotaBytesDefault
	}
	logger = logger.With(zap.String("quota-name", "v3-applier"))
	bytes, size := zap.Int64("quota-size-bytes", q.told), zap.String("quota-size", humanize.Bytes(uint64(q.bytesMax)))
	switch {
	case asked < 0:
		logger.Info("disabled backend quota", bytes)
	case asked == 0:
		logger.Info("enabled backend quota with default value", bytes, size)
	default:
		if asked > quotaBytesAdvised {
			logger.Warn("quota exceeds the maximum value", bytes, size,
				zap.Int64("quota-maximum-size-bytes", quotaBytesAdvised), zap.String("quota-maximum-size", humanize.Bytes(quotaBytesAdvised)))
		}
		logger.Info("enabled backend quota", bytes, size)
	}
	return q
}

// allow tells whether something that costs so many bytes may be proposed. A cost of 0 always may.
func (q *quota) allow(ctx context.Context, cost int64) error {
	switch {
	case cost == 0:
		return nil
	case q.diskFull.Load():
		return ErrNoSpace
	case q.has(cost):
		return nil
	}
	q.alarm(ctx)
	return ErrNoSpace
}

// has tells whether there is room for so many bytes. What the store has yet to write counts as written.
func (q *quota) has(cost int64) bool {
	return q.bytesMax == 0 || q.store.Size()+q.store.Pending()+cost < q.bytesMax
}

// alarm raises the member's NOSPACE alarm, unless it is raised.
func (q *quota) alarm(ctx context.Context) {
	size, pending := q.store.Size(), q.store.Pending()
	raised, err := q.alarms.raiseOwn(ctx, pb.AlarmType_NOSPACE)
	if raised || err != nil {
		q.logger.Warn("message exceeded backend quota; raising alarm", zap.Int64("quota-size-bytes", q.bytesMax),
			zap.String("quota-size", humanize.Bytes(uint64(q.bytesMax))), zap.Int64("size-bytes", size), zap.Int64("pending-bytes", pending), zap.Error(err))
	}
}

// spaceWatch raises the member's alarm for what others let in: a follower's file may be larger than that of the member that
// proposed, or its quota smaller. It looks only when something was applied since that could grow the store, so that an alarm
// that was cleared by hand stays so while clients delete.
type spaceWatch struct {
	clock clock.Clock
	// grown counts what was applied that could grow the store; full tells whether the quota is reached; alarm raises.
	grown func() uint64
	full  func() bool
	alarm func(context.Context)
}

// spaceInterval is how often the watch looks: at 200 MB/s the file is 20 MB past its quota by then.
const spaceInterval = 100 * time.Millisecond

// run watches until ctx is done.
func (w *spaceWatch) run(ctx context.Context) {
	tick := w.clock.NewTicker(spaceInterval)
	defer tick.Stop()
	var seen uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if grown := w.grown(); grown != seen {
			seen = grown
			if w.full() {
				w.alarm(ctx)
			}
		}
	}
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
