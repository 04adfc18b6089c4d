package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/state/lease"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

func (a *Applier) leaseGrant(r *pb.InternalRaftRequest, _ bool) Result {
	l, err := a.Leases.Grant(r.LeaseGrant.ID, r.LeaseGrant.TTL)
	if err != nil {
		return Result{Err: err}
	}
	saveLease(a.batch, l)
	return Result{Resp: &pb.LeaseGrantResponse{Header: a.header(), ID: l.ID, TTL: l.TTL}}
}

// leaseRevoke deletes a lease and, in key order and at one revision, every key attached to it.
func (a *Applier) leaseRevoke(r *pb.InternalRaftRequest, _ bool) Result {
	id := r.LeaseRevoke.ID
	keys, err := a.Leases.Revoke(id)
	if err != nil {
		return Result{Err: err}
	}
	tx := a.KV.Begin()
	for _, k := range keys {
		tx.DeleteRange(k, nil)
	}
	a.commit(tx)
	a.batch.Delete(schema.Lease, schema.LeaseKey(id))
	return Result{Resp: &pb.LeaseRevokeResponse{Header: a.header()}}
}

func (a *Applier) leaseCheckpoint(r *pb.InternalRaftRequest, _ bool) Result {
	for _, c := range r.LeaseCheckpoint.Checkpoints {
		if err := a.Leases.Checkpoint(c.ID, c.Remaining_TTL); err != nil {
			return Result{Err: err}
		}
		if l, ok := a.Leases.Lookup(c.ID); ok && a.keepsCheckpoints() {
			saveLease(a.batch, l)
		}
	}
	return Result{Resp: &pb.LeaseCheckpointResponse{Header: a.header()}}
}

// keepsCheckpoints tells whether a checkpoint outlives a restart: from cluster version 3.6 on, or by the gate.
func (a *Applier) keepsCheckpoints() bool {
	return a.o.PersistCheckpoints || a.Cluster.State().AtLeast(3, 6)
}

func saveLease(b *store.Batch, l lease.Lease) {
	b.Put(schema.Lease, schema.LeaseKey(l.ID), schema.AppendLease(nil, l.ID, l.TTL, l.Remaining))
}

// header is an answer's header as far as apply knows it.
func (a *Applier) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: a.KV.Rev()} }
