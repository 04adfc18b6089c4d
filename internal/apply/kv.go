package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/invariant"
	"keelson/internal/kit/wire"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/storage/schema"
)

// RangeOptions turns a request into what mvcc reads by.
func RangeOptions(r *pb.RangeRequest) mvcc.RangeOptions {
	return mvcc.RangeOptions{
		Key: r.Key, End: r.RangeEnd, Rev: r.Revision, Limit: r.Limit,
		Order: mvcc.SortOrder(r.SortOrder), Target: mvcc.SortTarget(r.SortTarget),
		KeysOnly: r.KeysOnly, CountOnly: r.CountOnly,
		MinMod: r.MinModRevision, MaxMod: r.MaxModRevision,
		MinCreate: r.MinCreateRevision, MaxCreate: r.MaxCreateRevision,
	}
}

func (a *Applier) put(r *pb.InternalRaftRequest, _ bool) Result {
	tx := a.KV.Begin()
	if err := a.checkPut(tx, r.Put); err != nil {
		a.commit(tx)
		return Result{Err: err}
	}
	resp := runPut(tx, r.Put)
	a.commit(tx)
	return Result{Resp: resp}
}

// checkPut tells whether a put may run on the state as tx sees it.
func (a *Applier) checkPut(tx *mvcc.Txn, r *pb.PutRequest) error {
	if r.Lease != 0 {
		if _, ok := a.Leases.Lookup(r.Lease); !ok {
			return lease.ErrNotFound
		}
	}
	if r.IgnoreValue || r.IgnoreLease {
		if _, ok := tx.Get(r.Key); !ok {
			return ErrKeyNotFound
		}
	}
	return nil
}

// runPut executes a checked put. A key that an earlier operation of the same transaction deleted keeps nothing:
// requests that do both are refused before they are proposed.
func runPut(tx *mvcc.Txn, r *pb.PutRequest) *wire.PutResponse {
	value, leaseID := r.Value, r.Lease
	if r.IgnoreValue || r.IgnoreLease {
		old, ok := tx.Get(r.Key)
		invariant.Assert(ok, "put keeps the value or lease of %q, which passed its check and is gone", r.Key)
		kv, err := wire.ParseKeyValue(old)
		invariant.Assert(err == nil, "the value of %q in memory does not parse: %v", r.Key, err)
		if r.IgnoreValue {
			value = kv.Value
		}
		if r.IgnoreLease {
			leaseID = kv.Lease
		}
	}
	rev, prev := tx.Put(r.Key, value, leaseID)
	resp := &wire.PutResponse{Header: &wire.Header{Revision: rev}}
	if r.PrevKv {
		resp.PrevKV = prev
	}
	return resp
}

func (a *Applier) deleteRange(r *pb.InternalRaftRequest, _ bool) Result {
	tx := a.KV.Begin()
	resp := runDelete(tx, r.DeleteRange)
	a.commit(tx)
	return Result{Resp: resp}
}

func runDelete(tx *mvcc.Txn, r *pb.DeleteRangeRequest) *wire.DeleteRangeResponse {
	n, prevs := tx.DeleteRange(r.Key, r.RangeEnd)
	resp := &wire.DeleteRangeResponse{Header: &wire.Header{Revision: tx.Rev()}, Deleted: n}
	if r.PrevKv {
		resp.PrevKVs = prevs
	}
	return resp
}

// compact makes revisions below the asked one unreadable at once; they leave memory and the store in the
// background. The mark goes into this entry's batch, so that a restart resumes the work.
func (a *Applier) compact(r *pb.InternalRaftRequest, _ bool) Result {
	rev := r.Compaction.Revision
	if err := a.KV.Compact(rev); err != nil {
		return Result{Err: err}
	}
	a.batch.Put(schema.Meta, schema.ScheduledCompactKey, schema.RevisionKey(schema.Revision{Main: rev}, false))
	a.Watch.Compacted(rev)
	resp := &pb.CompactionResponse{Header: &pb.ResponseHeader{Revision: a.KV.Rev()}}
	return Result{Resp: resp, Compacted: rev}
}
