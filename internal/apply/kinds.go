package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// kind is one sort of request: one row here is all that dispatch, the alarms' rules and metric labels know of it.
type kind struct {
	// name is the metric label and the word in logs.
	name string
	// in tells whether the request is of this kind.
	in func(*pb.InternalRaftRequest) bool
	// data is set for what the CORRUPT alarm forbids.
	data bool
	// grows tells whether the request would grow the store; nil: never. The NOSPACE alarm forbids it then.
	grows func(*pb.InternalRaftRequest) bool
	// run executes the request; wanted is false where nobody here waits for the answer.
	run func(a *Applier, r *pb.InternalRaftRequest, wanted bool) Result
}

func always(*pb.InternalRaftRequest) bool { return true }

func nothing(*Applier, *pb.InternalRaftRequest, bool) Result { return Result{} }

// kinds is in order of frequency: the first row that matches is taken.
var kinds = [...]kind{
	{"Put", func(r *pb.InternalRaftRequest) bool { return r.Put != nil }, true, always, (*Applier).put},
	{"Txn", func(r *pb.InternalRaftRequest) bool { return r.Txn != nil }, true,
		func(r *pb.InternalRaftRequest) bool { return txnGrows(r.Txn) }, (*Applier).txn},
	{"DeleteRange", func(r *pb.InternalRaftRequest) bool { return r.DeleteRange != nil }, true, nil, (*Applier).deleteRange},
	{"LeaseGrant", func(r *pb.InternalRaftRequest) bool { return r.LeaseGrant != nil }, true, always, (*Applier).leaseGrant},
	{"LeaseRevoke", func(r *pb.InternalRaftRequest) bool { return r.LeaseRevoke != nil }, true, nil, (*Applier).leaseRevoke},
	{"LeaseCheckpoint", func(r *pb.InternalRaftRequest) bool { return r.LeaseCheckpoint != nil }, false, nil, (*Applier).leaseCheckpoint},
	{"Compaction", func(r *pb.InternalRaftRequest) bool { return r.Compaction != nil }, true, nil, (*Applier).compact},
	{"Alarm", func(r *pb.InternalRaftRequest) bool { return r.Alarm != nil }, false, nil, (*Applier).alarm},
	{"ClusterMemberAttrSet", func(r *pb.InternalRaftRequest) bool { return r.ClusterMemberAttrSet != nil }, false, nil, (*Applier).memberAttributes},
	{"ClusterVersionSet", func(r *pb.InternalRaftRequest) bool { return r.ClusterVersionSet != nil }, false, nil, (*Applier).clusterVersion},
	{"DowngradeInfoSet", func(r *pb.InternalRaftRequest) bool { return r.DowngradeInfoSet != nil }, false, nil, (*Applier).downgradeInfo},
	{"DowngradeVersionTest", func(r *pb.InternalRaftRequest) bool { return r.DowngradeVersionTest != nil }, false, nil, nothing},
	// A range in the log changes nothing: no stock member proposes one, and all may skip it alike.
	{"Range", func(r *pb.InternalRaftRequest) bool { return r.Range != nil }, true, nil, nothing},
}

// kindOf gives the row of a request, nil if there is none.
func kindOf(r *pb.InternalRaftRequest) *kind {
	for i := range kinds {
		if kinds[i].in(r) {
			return &kinds[i]
		}
	}
	return nil
}

// NameOf gives the name of what a request asks for, "unknown" where it has none.
func NameOf(r *pb.InternalRaftRequest) string {
	if k := kindOf(r); k != nil {
		return k.name
	}
	return "unknown"
}

// txnGrows tells whether either branch of a transaction, or of one nested in it, puts something.
func txnGrows(t *pb.TxnRequest) bool {
	return opsGrow(t.GetSuccess()) || opsGrow(t.GetFailure())
}

func opsGrow(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if op.GetRequestPut() != nil {
			return true
		}
		if t := op.GetRequestTxn(); t != nil && txnGrows(t) {
			return true
		}
	}
	return false
}
