package server

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/apply"
	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
	"keelson/internal/state/mvcc"
)

// KV reads and writes keys.
type KV struct {
	identity
	kv       *mvcc.Store
	proposer *proposer
	reads    *reads
	quota    *quota
	reclaim  *reclaimer
	slow     *slow
	auth     *authority
	opsMax   int
}

// A streamed range comes in chunks of at most this many keys or, but for one larger key, bytes: half a megabyte keeps
// a slow reader cheap and the first answer soon.
const (
	streamChunkKeys  = 1000
	streamChunkBytes = 512 << 10
)

// Range reads keys, at the newest revision or an older one that is not compacted.
func (s *KV) Range(ctx context.Context, r *pb.RangeRequest) (*wire.RangeResponse, error) {
	if err := checkRange(r); err != nil {
		return nil, err
	}
	start := s.proposer.clock.Now()
	resp, began, err := s.rangeNow(ctx, r, start)
	s.slow.ranged(r, resp, start, began, s.proposer.clock.Now(), err)
	return resp, err
}

// rangeNow tells when the reading itself began, zero if it did not. The clock is asked again only where the member had to
// make sure that it is up to date: a quick read would notice.
func (s *KV) rangeNow(ctx context.Context, r *pb.RangeRequest, start time.Time) (_ *wire.RangeResponse, began time.Time, _ error) {
	if err := s.ready(ctx, r.Serializable); err != nil {
		return nil, time.Time{}, err
	}
	if !r.Serializable && !s.reads.loop.LocalRead() {
		start = s.proposer.clock.Now()
	}
	v, res, err := s.read(ctx, apply.RangeOptions(r))
	if err != nil {
		return nil, start, err
	}
	if res.More && r.Revision == 0 {
		// The next page will ask for this revision.
		s.kv.RetainView(v, s.proposer.clock.Now().Add(pageHold))
	}
	return &wire.RangeResponse{Header: s.header(res.Rev), KVs: res.KVs, More: res.More, Count: res.Count}, start, nil
}

// read ranges over the newest view. One that reads the present may find that a compaction newer than it has taken what it
// was about to show: it starts again on the next view.
func (s *KV) read(ctx context.Context, o mvcc.RangeOptions) (*mvcc.View, mvcc.RangeResult, error) {
	for {
		v := s.kv.View()
		if err := s.auth.may(ctx, v, auth.Access{Kind: auth.Read, Key: o.Key, End: o.End}); err != nil {
			return v, mvcc.RangeResult{}, err
		}
		res, err := v.Range(ctx, o)
		if o.Rev > 0 || !errors.Is(err, mvcc.ErrCompacted) || s.kv.View() == v {
			return v, res, err
		}
	}
}

// RangeStream reads keys in key order and hands them to send in chunks. The last chunk has the header, the count and
// whether the limit left keys out.
func (s *KV) RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*wire.RangeStreamResponse) error) error {
	if err := checkStream(r); err != nil {
		return err
	}
	if err := s.ready(ctx, r.Serializable); err != nil {
		return err
	}
	o := apply.RangeOptions(r)
	o.Order, o.Target = mvcc.SortNone, mvcc.ByKey
	for {
		v := s.kv.View()
		if err := s.auth.may(ctx, v, auth.Access{Kind: auth.Read, Key: o.Key, End: o.End}); err != nil {
			return err
		}
		begun, err := s.stream(ctx, v, o, send)
		// As in read: as long as nothing went out, a compaction newer than the view only means to start again.
		if o.Rev > 0 || begun || !errors.Is(err, mvcc.ErrCompacted) || s.kv.View() == v {
			return err
		}
	}
}

// stream hands a range of a view to send. It tells whether it had begun to.
func (s *KV) stream(ctx context.Context, v *mvcc.View, o mvcc.RangeOptions, send func(*wire.RangeStreamResponse) error) (begun bool, err error) {
	// One chunk is held back: the last one carries what is known at the end.
	var held [][]byte
	res, err := v.Walk(ctx, o, streamChunkKeys, streamChunkBytes, func(kvs [][]byte) error {
		if held != nil {
			begun = true
			if err := send(&wire.RangeStreamResponse{Range: wire.RangeResponse{KVs: held}}); err != nil {
				return err
			}
		}
		held = kvs
		return nil
	})
	if err != nil {
		return begun, err
	}
	last := wire.RangeResponse{Header: s.header(res.Rev), KVs: held, More: res.More, Count: res.Count}
	return true, send(&wire.RangeStreamResponse{Range: last})
}

// pageHold is how long the view of a page is kept for the next one: a reader that thinks for longer pays for a walk.
const pageHold = time.Minute

// ready returns once the view may be read: at once for a serializable read.
func (s *KV) ready(ctx context.Context, serializable bool) error {
	if serializable {
		return nil
	}
	return s.reads.linearize(ctx)
}

// Put writes one key.
func (s *KV) Put(ctx context.Context, r *pb.PutRequest) (*wire.PutResponse, error) {
	if err := checkPut(r); err != nil {
		return nil, err
	}
	if err := s.quota.allow(ctx, putCost(r)); err != nil {
		return nil, err
	}
	res, err := s.proposer.propose(ctx, &pb.InternalRaftRequest{Put: r})
	if err != nil {
		return nil, err
	}
	resp := res.Resp.(*wire.PutResponse)
	s.fill(resp.Header)
	return resp, nil
}

// DeleteRange deletes keys. It is never refused for want of space.
func (s *KV) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*wire.DeleteRangeResponse, error) {
	if err := checkDelete(r); err != nil {
		return nil, err
	}
	res, err := s.proposer.propose(ctx, &pb.InternalRaftRequest{DeleteRange: r})
	if err != nil {
		return nil, err
	}
	resp := res.Resp.(*wire.DeleteRangeResponse)
	s.fill(resp.Header)
	return resp, nil
}

// Txn runs a transaction: on a view if it can only read, through the log else.
func (s *KV) Txn(ctx context.Context, r *pb.TxnRequest) (*wire.TxnResponse, error) {
	if err := checkTxn(r, s.opsMax); err != nil {
		return nil, err
	}
	if onlyReads, serializable := readOnly(r); onlyReads {
		start := s.proposer.clock.Now()
		resp, err := s.readTxn(ctx, r, serializable)
		s.slow.readTxn(r, resp, s.proposer.clock.Now().Sub(start), err)
		return resp, err
	}
	if err := s.quota.allow(ctx, txnCost(r)); err != nil {
		return nil, err
	}
	res, err := s.proposer.propose(ctx, &pb.InternalRaftRequest{Txn: r})
	if err != nil {
		return nil, err
	}
	resp := res.Resp.(*wire.TxnResponse)
	s.fill(resp.Header)
	return resp, nil
}

// readTxn runs a transaction of ranges on the newest view, and, as read does, on the next one if a compaction was faster.
func (s *KV) readTxn(ctx context.Context, r *pb.TxnRequest, serializable bool) (*wire.TxnResponse, error) {
	if err := s.ready(ctx, serializable); err != nil {
		return nil, err
	}
	for {
		v := s.kv.View()
		if err := s.mayTxn(ctx, v, r); err != nil {
			return nil, err
		}
		resp, err := apply.ReadTxn(ctx, v, r)
		if errors.Is(err, mvcc.ErrCompacted) && s.kv.View() != v {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.fill(resp.Header)
		return resp, nil
	}
}

// mayTxn tells whether the caller may read what a transaction reads.
func (s *KV) mayTxn(ctx context.Context, v *mvcc.View, r *pb.TxnRequest) error {
	if !rulesOf(v).Enabled() {
		return nil
	}
	g, err := s.auth.guard(ctx, v)
	if err != nil {
		return err
	}
	// etcd looks at the revision last, so that a transaction which touches no key fails by it too.
	if err := g.Txn(r); err != nil || g.Caller.Revision == 0 || g.Caller.Revision >= g.View.Revision() {
		return err
	}
	return auth.ErrOldRevision
}

// readOnly tells whether a transaction is ranges alone, and whether all of them are serializable.
func readOnly(r *pb.TxnRequest) (onlyReads, serializable bool) {
	serializable = true
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			rr := op.GetRequestRange()
			if rr == nil {
				return false, false
			}
			serializable = serializable && rr.Serializable
		}
	}
	return true, serializable
}

// Compact forgets revisions below r.Revision. With Physical it answers once they have left the store.
func (s *KV) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	res, err := s.proposer.propose(ctx, &pb.InternalRaftRequest{Compaction: r})
	if err != nil {
		return nil, err
	}
	resp := res.Resp.(*pb.CompactionResponse)
	if r.Physical {
		if err := s.reclaim.waitCompacted(ctx, res.Compacted); err != nil {
			return nil, err
		}
	}
	s.fillPB(resp.Header)
	return resp, nil
}
