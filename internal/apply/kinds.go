package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/state/auth"
)

// kind is one sort of request: one row here is all that dispatch, the alarms' rules, authorization and metric labels know of it.
type kind struct {
	// name is the metric label and the word in logs.
	name string
	// in tells whether the request is of this kind.
	in func(*pb.InternalRaftRequest) bool
	// data is set for what the CORRUPT alarm forbids.
	data bool
	// grows tells whether the request would grow the store; nil: never. The NOSPACE alarm forbids it then.
	grows func(*pb.InternalRaftRequest) bool
	// may tells whether the caller may ask for it.
	may func(*Guard, *pb.InternalRaftRequest) error
	// run executes the request; wanted is false where nobody here waits for the answer.
	run func(a *Applier, r *pb.InternalRaftRequest, wanted bool) Result
}

func always(*pb.InternalRaftRequest) bool { return true }

func nothing(*Applier, *pb.InternalRaftRequest, bool) Result { return Result{} }

// kinds is in order of frequency: the first row that matches is taken.
var kinds = [...]kind{
	{"Put", func(r *pb.InternalRaftRequest) bool { return r.Put != nil }, true, always,
		func(g *Guard, r *pb.InternalRaftRequest) error { return g.put(r.Put) }, (*Applier).put},
	{"Txn", func(r *pb.InternalRaftRequest) bool { return r.Txn != nil }, true,
		func(r *pb.InternalRaftRequest) bool { return txnGrows(r.Txn) },
		func(g *Guard, r *pb.InternalRaftRequest) error { return g.Txn(r.Txn) }, (*Applier).txn},
	{"DeleteRange", func(r *pb.InternalRaftRequest) bool { return r.DeleteRange != nil }, true, nil,
		func(g *Guard, r *pb.InternalRaftRequest) error { return g.deleteRange(r.DeleteRange) }, (*Applier).deleteRange},
	{"LeaseGrant", func(r *pb.InternalRaftRequest) bool { return r.LeaseGrant != nil }, true, always, anybody, (*Applier).leaseGrant},
	{"LeaseRevoke", func(r *pb.InternalRaftRequest) bool { return r.LeaseRevoke != nil }, true, nil,
		func(g *Guard, r *pb.InternalRaftRequest) error { return g.LeaseKeys(r.LeaseRevoke.ID, auth.Write) }, (*Applier).leaseRevoke},
	{"LeaseCheckpoint", func(r *pb.InternalRaftRequest) bool { return r.LeaseCheckpoint != nil }, false, nil, anybody, (*Applier).leaseCheckpoint},
	{"Compaction", func(r *pb.InternalRaftRequest) bool { return r.Compaction != nil }, true, nil, anybody, (*Applier).compact},
	{"Authenticate", func(r *pb.InternalRaftRequest) bool { return r.Authenticate != nil }, false, nil, anybody, authenticate},
	{"AuthStatus", func(r *pb.InternalRaftRequest) bool { return r.AuthStatus != nil }, false, nil, anybody, authStatus},
	{"AuthEnable", func(r *pb.InternalRaftRequest) bool { return r.AuthEnable != nil }, false, nil, admin, authEnable},
	{"AuthDisable", func(r *pb.InternalRaftRequest) bool { return r.AuthDisable != nil }, false, nil, admin, authDisable},
	{"AuthUserAdd", func(r *pb.InternalRaftRequest) bool { return r.AuthUserAdd != nil }, false, nil, admin, userAdd},
	{"AuthUserDelete", func(r *pb.InternalRaftRequest) bool { return r.AuthUserDelete != nil }, false, nil, admin, userDelete},
	{"AuthUserChangePassword", func(r *pb.InternalRaftRequest) bool { return r.AuthUserChangePassword != nil }, false, nil, admin, userChangePassword},
	{"AuthUserGrantRole", func(r *pb.InternalRaftRequest) bool { return r.AuthUserGrantRole != nil }, false, nil, admin, userGrantRole},
	{"AuthUserGet", func(r *pb.InternalRaftRequest) bool { return r.AuthUserGet != nil }, false, nil, ownUser, userGet},
	{"AuthUserRevokeRole", func(r *pb.InternalRaftRequest) bool { return r.AuthUserRevokeRole != nil }, false, nil, admin, userRevokeRole},
	{"AuthRoleAdd", func(r *pb.InternalRaftRequest) bool { return r.AuthRoleAdd != nil }, false, nil, admin, roleAdd},
	{"AuthRoleGrantPermission", func(r *pb.InternalRaftRequest) bool { return r.AuthRoleGrantPermission != nil }, false, nil, admin, roleGrantPermission},
	{"AuthRoleGet", func(r *pb.InternalRaftRequest) bool { return r.AuthRoleGet != nil }, false, nil, ownRole, roleGet},
	{"AuthRoleRevokePermission", func(r *pb.InternalRaftRequest) bool { return r.AuthRoleRevokePermission != nil }, false, nil, admin, roleRevokePermission},
	{"AuthRoleDelete", func(r *pb.InternalRaftRequest) bool { return r.AuthRoleDelete != nil }, false, nil, admin, roleDelete},
	{"AuthUserList", func(r *pb.InternalRaftRequest) bool { return r.AuthUserList != nil }, false, nil, admin, userList},
	{"AuthRoleList", func(r *pb.InternalRaftRequest) bool { return r.AuthRoleList != nil }, false, nil, admin, roleList},
	{"Alarm", func(r *pb.InternalRaftRequest) bool { return r.Alarm != nil }, false, nil, anybody, (*Applier).alarm},
	{"ClusterMemberAttrSet", func(r *pb.InternalRaftRequest) bool { return r.ClusterMemberAttrSet != nil }, false, nil, anybody, (*Applier).memberAttributes},
	{"ClusterVersionSet", func(r *pb.InternalRaftRequest) bool { return r.ClusterVersionSet != nil }, false, nil, anybody, (*Applier).clusterVersion},
	{"DowngradeInfoSet", func(r *pb.InternalRaftRequest) bool { return r.DowngradeInfoSet != nil }, false, nil, anybody, (*Applier).downgradeInfo},
	{"DowngradeVersionTest", func(r *pb.InternalRaftRequest) bool { return r.DowngradeVersionTest != nil }, false, nil, anybody, nothing},
	// A range in the log changes nothing: no stock member proposes one, and all may skip it alike.
	{"Range", func(r *pb.InternalRaftRequest) bool { return r.Range != nil }, true, nil,
		func(g *Guard, r *pb.InternalRaftRequest) error { return g.Range(r.Range.Key, r.Range.RangeEnd) }, nothing},
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
