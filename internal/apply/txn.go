package apply

import (
	"bytes"
	"cmp"
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/invariant"
	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
)

// plan is a transaction whose compares have been evaluated: which branch it takes, and the plans of the
// transactions nested in that branch, in order. All of it is decided on the state before the first write.
type plan struct {
	succeeded bool
	ops       []*pb.RequestOp
	nested    []*plan
}

// reader is what a transaction's compares and ranges read from: an open mvcc.Txn.
type reader interface {
	Range(o mvcc.RangeOptions) (mvcc.RangeResult, error)
	Get(key []byte) (kv []byte, ok bool)
	Rev() int64
}

func (a *Applier) txn(r *pb.InternalRaftRequest, wanted bool) Result {
	tx := a.KV.Begin()
	p := planTxn(tx, r.Txn)
	if err := a.checkPlan(tx, p); err != nil {
		a.commit(tx)
		return Result{Err: err}
	}
	resp, err := runPlan(tx, p, wanted)
	// Every reason to fail was checked before the first write: half a transaction must never be kept.
	invariant.Assert(err == nil, "a checked transaction failed half-way: %v", err)
	resp.Header.Revision = tx.Rev()
	a.commit(tx)
	return Result{Resp: resp}
}

// planTxn evaluates compares on the state as r sees it.
func planTxn(r reader, t *pb.TxnRequest) *plan {
	p := &plan{succeeded: true, ops: t.GetSuccess()}
	for _, c := range t.GetCompare() {
		if !holds(r, c) {
			p.succeeded, p.ops = false, t.GetFailure()
			break
		}
	}
	for _, op := range p.ops {
		if n, ok := op.Request.(*pb.RequestOp_RequestTxn); ok {
			p.nested = append(p.nested, planTxn(r, n.RequestTxn))
		}
	}
	return p
}

// checkPlan tells whether every operation on the chosen path can run.
func (a *Applier) checkPlan(tx *mvcc.Txn, p *plan) error {
	nested := p.nested
	for _, op := range p.ops {
		var err error
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			err = checkRange(o.RequestRange.GetRevision(), tx.Rev(), a.KV.CompactRev())
		case *pb.RequestOp_RequestPut:
			err = a.checkPut(tx, o.RequestPut)
		case *pb.RequestOp_RequestTxn:
			err = a.checkPlan(tx, nested[0])
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRange tells whether a range at revision asked (0: now) can be read. In a transaction a negative revision is one
// long compacted, as in etcd: members that disagree here would part.
func checkRange(asked, current, compacted int64) error {
	switch {
	case asked > current:
		return mvcc.ErrFutureRev
	case asked != 0 && asked < compacted:
		return mvcc.ErrCompacted
	}
	return nil
}

// runPlan executes a checked plan. Ranges are skipped where nobody wants the answer.
func runPlan(tx *mvcc.Txn, p *plan, wanted bool) (*wire.TxnResponse, error) {
	resp := &wire.TxnResponse{Header: &wire.Header{}, Succeeded: p.succeeded, Responses: make([]wire.ResponseOp, len(p.ops))}
	nested := p.nested
	for i, op := range p.ops {
		out := &resp.Responses[i]
		var err error
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			if wanted {
				out.Range, err = runRange(tx, o.RequestRange)
			}
		case *pb.RequestOp_RequestPut:
			out.Put = runPut(tx, o.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			out.DeleteRange = runDelete(tx, o.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			out.Txn, err = runPlan(tx, nested[0], wanted)
			nested = nested[1:]
		}
		if err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func runRange(r reader, req *pb.RangeRequest) (*wire.RangeResponse, error) {
	res, err := r.Range(RangeOptions(req))
	if err != nil {
		return nil, fmt.Errorf("apply: range in a transaction: %w", err)
	}
	return &wire.RangeResponse{Header: &wire.Header{Revision: res.Rev}, KVs: res.KVs, More: res.More, Count: res.Count}, nil
}

// ReadTxn executes a transaction that only reads, on a view. It is never in the log.
func ReadTxn(ctx context.Context, v *mvcc.View, t *pb.TxnRequest) (*wire.TxnResponse, error) {
	r := viewReader{ctx, v}
	p := planTxn(r, t)
	for _, op := range p.ops {
		if err := checkRange(op.GetRequestRange().GetRevision(), v.Rev(), v.CompactRev()); err != nil {
			return nil, err
		}
	}
	resp := &wire.TxnResponse{Header: &wire.Header{Revision: v.Rev()}, Succeeded: p.succeeded, Responses: make([]wire.ResponseOp, len(p.ops))}
	for i, op := range p.ops {
		var err error
		if resp.Responses[i].Range, err = runRange(r, op.GetRequestRange()); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// viewReader reads from a view, as long as its client waits.
type viewReader struct {
	ctx  context.Context
	view *mvcc.View
}

func (r viewReader) Range(o mvcc.RangeOptions) (mvcc.RangeResult, error) {
	return r.view.Range(r.ctx, o)
}

func (r viewReader) Get(key []byte) ([]byte, bool) {
	kv, ok, err := r.view.Get(key)
	return kv, ok && err == nil
}

func (r viewReader) Rev() int64 { return r.view.Rev() }

// holds tells whether a compare is true of every key in its range. Of a range without keys it is true of a key
// that is all zeros, but for a value: nothing can equal the value of a key that is not there.
func holds(r reader, c *pb.Compare) bool {
	if len(c.RangeEnd) == 0 {
		kv, ok := r.Get(c.Key)
		if !ok {
			return c.Target != pb.Compare_VALUE && compare(c, wire.KeyValue{})
		}
		return compareEncoded(c, kv)
	}
	res, err := r.Range(mvcc.RangeOptions{Key: c.Key, End: c.RangeEnd})
	if err != nil {
		return false
	}
	if len(res.KVs) == 0 {
		return c.Target != pb.Compare_VALUE && compare(c, wire.KeyValue{})
	}
	for _, kv := range res.KVs {
		if !compareEncoded(c, kv) {
			return false
		}
	}
	return true
}

func compareEncoded(c *pb.Compare, b []byte) bool {
	kv, err := wire.ParseKeyValue(b)
	invariant.Assert(err == nil, "a value in memory does not parse: %v", err)
	return compare(c, kv)
}

// compare evaluates one compare on one key.
func compare(c *pb.Compare, kv wire.KeyValue) bool {
	var d int
	switch c.Target {
	case pb.Compare_VALUE:
		d = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_CREATE:
		d = cmp.Compare(kv.Create, c.GetCreateRevision())
	case pb.Compare_MOD:
		d = cmp.Compare(kv.Mod, c.GetModRevision())
	case pb.Compare_VERSION:
		d = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_LEASE:
		d = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return d == 0
	case pb.Compare_NOT_EQUAL:
		return d != 0
	case pb.Compare_GREATER:
		return d > 0
	case pb.Compare_LESS:
		return d < 0
	}
	return true
}
