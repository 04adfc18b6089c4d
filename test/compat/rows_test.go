package compat

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
)

// caller is what a call may name.
type caller struct {
	self    string // the user who makes it
	peerURL string // of the member
	id      uint64 // of the member
}

// row is one call that every identity makes.
type row struct {
	method, what string
	ask          func(c caller) proto.Message
	// opaque answers differ between any two servers: that there is one is compared.
	opaque bool
}

// rows are calls of every method. Those that would end the test are refused after the caller was let through.
func rows() []row {
	var all []row
	for _, part := range [][]row{keyRows(), txnRows(), watchRows(), leaseRows(), clusterRows(), maintenanceRows(), authRows(), userRows(), roleRows(), queueRows()} {
		all = append(all, part...)
	}
	return all
}

// fixed makes rows of one method out of requests that name no caller.
func fixed(method string, opaque bool, requests ...proto.Message) []row {
	var all []row
	for _, r := range requests {
		all = append(all, row{method, describe(r), func(caller) proto.Message { return r }, opaque})
	}
	return all
}

var open = []byte{0} // as an end: to the last key

func keyRows() []row {
	reads := []proto.Message{
		&pb.RangeRequest{Key: b("r/1")}, &pb.RangeRequest{Key: b("r/"), RangeEnd: b("r0")}, &pb.RangeRequest{Key: b("r/"), RangeEnd: b("r1")}, &pb.RangeRequest{Key: b("r/1"), RangeEnd: open},
		&pb.RangeRequest{Key: b("w/1"), Serializable: true}, &pb.RangeRequest{Key: b("w/"), RangeEnd: b("w0"), CountOnly: true}, &pb.RangeRequest{Key: b("x/1"), KeysOnly: true}, &pb.RangeRequest{Key: open, RangeEnd: open},
		&pb.RangeRequest{Key: b("r0"), RangeEnd: b("r/")}, &pb.RangeRequest{}, &pb.RangeRequest{Key: b("r/none"), Serializable: true}, &pb.RangeRequest{Key: b("r/1"), Revision: 1 << 40},
	}
	all := fixed(pb.KV_Range_FullMethodName, false, reads...)
	all = append(all, fixed(pb.KV_RangeStream_FullMethodName, false, reads[:10]...)...)
	all = append(all, fixed(
		pb.KV_Put_FullMethodName, false,
		&pb.PutRequest{Key: b("r/new"), Value: b("v")}, &pb.PutRequest{Key: b("w/new"), Value: b("v")}, &pb.PutRequest{Key: b("x/new"), Value: b("v")}, &pb.PutRequest{Key: b("w/1"), Value: b("v"), PrevKv: true},
		&pb.PutRequest{Key: b("r/1"), Value: b("v"), PrevKv: true}, &pb.PutRequest{Key: b("w/1"), IgnoreValue: true}, &pb.PutRequest{Key: b("w/1"), Value: b("v"), IgnoreLease: true}, &pb.PutRequest{},
		&pb.PutRequest{Key: b("w/1"), Value: b("v"), Lease: leaseOfReader}, &pb.PutRequest{Key: b("w/1"), Value: b("v"), Lease: leaseOfWriter}, &pb.PutRequest{Key: b("w/1"), Value: b("v"), Lease: leaseOfBoth},
		&pb.PutRequest{Key: b("w/1"), Value: b("v"), Lease: leaseOfNone}, &pb.PutRequest{Key: b("w/1"), Value: b("v"), Lease: 404},
	)...)
	all = append(all, fixed(
		pb.KV_DeleteRange_FullMethodName, false,
		&pb.DeleteRangeRequest{Key: b("r/1")}, &pb.DeleteRangeRequest{Key: b("w/1")}, &pb.DeleteRangeRequest{Key: b("w/1"), PrevKv: true}, &pb.DeleteRangeRequest{Key: b("r/1"), PrevKv: true},
		&pb.DeleteRangeRequest{Key: b("w/"), RangeEnd: b("w0")}, &pb.DeleteRangeRequest{Key: b("w/"), RangeEnd: open}, &pb.DeleteRangeRequest{Key: b("x/none")}, &pb.DeleteRangeRequest{Key: b("w/leased")}, &pb.DeleteRangeRequest{},
	)...)
	return append(all, fixed(pb.KV_Compact_FullMethodName, false, &pb.CompactionRequest{Revision: 1 << 40}, &pb.CompactionRequest{Revision: -1})...)
}

func txnRows() []row {
	read := func(key string) *pb.RequestOp { return opGet(&pb.RangeRequest{Key: b(key)}) }
	put := func(r *pb.PutRequest) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
	}
	del := func(r *pb.DeleteRangeRequest) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
	}
	is := func(key, end string) []*pb.Compare {
		return []*pb.Compare{version(key, end, pb.Compare_GREATER, 0)}
	}
	do := func(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }
	return fixed(
		pb.KV_Txn_FullMethodName, false,
		&pb.TxnRequest{}, do(read("r/1")), do(read("w/1")), do(read("x/1")), do(put(&pb.PutRequest{Key: b("w/1"), Value: b("t")})), do(put(&pb.PutRequest{Key: b("r/1"), Value: b("t")})),
		&pb.TxnRequest{Compare: is("r/1", "")}, &pb.TxnRequest{Compare: is("w/1", "")}, &pb.TxnRequest{Compare: is("r/", "r0")}, &pb.TxnRequest{Compare: is("r/", "\x00")}, &pb.TxnRequest{Compare: is("x/1", ""), Success: []*pb.RequestOp{read("r/1")}},
		&pb.TxnRequest{Compare: is("r/none", ""), Success: []*pb.RequestOp{read("x/1")}, Failure: []*pb.RequestOp{read("r/1")}}, &pb.TxnRequest{Compare: is("w/1", ""), Success: []*pb.RequestOp{read("w/1")}, Failure: []*pb.RequestOp{read("x/1")}},
		do(put(&pb.PutRequest{Key: b("w/1"), Value: b("t"), PrevKv: true})), do(put(&pb.PutRequest{Key: b("r/1"), Value: b("t"), PrevKv: true})), do(del(&pb.DeleteRangeRequest{Key: b("w/1"), PrevKv: true})), do(del(&pb.DeleteRangeRequest{Key: b("x/1"), PrevKv: true})),
		do(put(&pb.PutRequest{Key: b("w/1"), Lease: leaseOfReader})), do(put(&pb.PutRequest{Key: b("w/1"), Lease: leaseOfWriter})), do(put(&pb.PutRequest{Key: b("w/1"), Lease: leaseOfBoth})), do(put(&pb.PutRequest{Key: b("w/1"), IgnoreValue: true})),
		do(put(&pb.PutRequest{Key: b("w/1"), Value: b("t")}), put(&pb.PutRequest{Key: b("x/1"), Value: b("t")})), do(put(&pb.PutRequest{Key: b("w/1"), Value: b("t")}), read("r/1")),
		do(opTxn(do(read("r/1")))), do(opTxn(do(read("x/1")))), do(opTxn(do(put(&pb.PutRequest{Key: b("w/1"), Value: b("t")})))), do(opTxn(do(put(&pb.PutRequest{Key: b("r/1"), Value: b("t")})))),
		do(opTxn(do(put(&pb.PutRequest{Key: b("w/1"), Lease: leaseOfReader})))), do(opTxn(do(put(&pb.PutRequest{Key: b("r/1"), PrevKv: true})))), do(opTxn(do(del(&pb.DeleteRangeRequest{Key: b("w/"), RangeEnd: open})))),
		do(opTxn(&pb.TxnRequest{Compare: is("x/1", "")})), do(opTxn(&pb.TxnRequest{Compare: is("x/none", ""), Success: []*pb.RequestOp{read("x/1")}, Failure: []*pb.RequestOp{read("r/1")}})), do(opTxn(do(opTxn(do(read("x/1")))))),
		do(opTxn(do(opTxn(do(put(&pb.PutRequest{Key: b("x/1"), Value: b("t")})))))), do(read("r/1"), opTxn(do(read("w/1")))),
	)
}

func watchRows() []row {
	create := func(r *pb.WatchCreateRequest) proto.Message {
		return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
	}
	return fixed(
		pb.Watch_Watch_FullMethodName, false,
		create(&pb.WatchCreateRequest{Key: b("r/1")}), create(&pb.WatchCreateRequest{Key: b("r/"), RangeEnd: b("r0")}), create(&pb.WatchCreateRequest{Key: b("r/"), RangeEnd: open}), create(&pb.WatchCreateRequest{Key: open, RangeEnd: open}),
		create(&pb.WatchCreateRequest{RangeEnd: open}), create(&pb.WatchCreateRequest{Key: b("w/1"), PrevKv: true}), create(&pb.WatchCreateRequest{Key: b("w/"), RangeEnd: b("w0"), PrevKv: true, WatchId: 7}), create(&pb.WatchCreateRequest{Key: b("x/1"), StartRevision: 1}),
		create(&pb.WatchCreateRequest{Key: b("r/z"), RangeEnd: b("r/a")}), create(&pb.WatchCreateRequest{Key: b("w/z"), RangeEnd: b("r/a")}), create(&pb.WatchCreateRequest{}),
	)
}

func leaseRows() []row {
	var all []row
	all = append(all, fixed(pb.Lease_LeaseGrant_FullMethodName, false, &pb.LeaseGrantRequest{ID: 201, TTL: leaseTTL}, &pb.LeaseGrantRequest{ID: leaseOfReader, TTL: leaseTTL}, &pb.LeaseGrantRequest{ID: 202, TTL: 1 << 50})...)
	for _, id := range append([]int64{404}, heldLeases...) {
		all = append(all, fixed(pb.Lease_LeaseRevoke_FullMethodName, false, &pb.LeaseRevokeRequest{ID: id})...)
		all = append(all, fixed(pb.Lease_LeaseKeepAlive_FullMethodName, false, &pb.LeaseKeepAliveRequest{ID: id})...)
		all = append(all, fixed(pb.Lease_LeaseTimeToLive_FullMethodName, false, &pb.LeaseTimeToLiveRequest{ID: id}, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})...)
	}
	return append(all, fixed(pb.Lease_LeaseLeases_FullMethodName, false, &pb.LeaseLeasesRequest{})...)
}

func clusterRows() []row {
	own := func(method string, ask func(c caller) proto.Message) []row {
		return []row{{method, "the member itself", ask, true}}
	}
	all := own(pb.Cluster_MemberAdd_FullMethodName, func(c caller) proto.Message { return &pb.MemberAddRequest{PeerURLs: []string{c.peerURL}} })
	all = append(all, own(pb.Cluster_MemberUpdate_FullMethodName, func(c caller) proto.Message {
		return &pb.MemberUpdateRequest{ID: c.id, PeerURLs: []string{c.peerURL}}
	})...)
	all = append(all, own(pb.Cluster_MemberPromote_FullMethodName, func(c caller) proto.Message { return &pb.MemberPromoteRequest{ID: c.id} })...)
	all = append(all, fixed(pb.Cluster_MemberAdd_FullMethodName, true, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:1"}, IsLearner: true}, &pb.MemberAddRequest{PeerURLs: []string{"nonsense"}})...)
	all = append(all, fixed(pb.Cluster_MemberRemove_FullMethodName, true, &pb.MemberRemoveRequest{ID: 5})...)
	all = append(all, fixed(pb.Cluster_MemberUpdate_FullMethodName, true, &pb.MemberUpdateRequest{ID: 5, PeerURLs: []string{"http://127.0.0.1:1"}})...)
	all = append(all, fixed(pb.Cluster_MemberPromote_FullMethodName, true, &pb.MemberPromoteRequest{ID: 5})...)
	return append(all, fixed(pb.Cluster_MemberList_FullMethodName, true, &pb.MemberListRequest{}, &pb.MemberListRequest{Linearizable: true})...)
}

func maintenanceRows() []row {
	var all []row
	for _, part := range [][]row{
		fixed(pb.Maintenance_Alarm_FullMethodName, true, &pb.AlarmRequest{}, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE}, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE}),
		fixed(pb.Maintenance_Status_FullMethodName, true, &pb.StatusRequest{}),
		fixed(pb.Maintenance_Defragment_FullMethodName, true, &pb.DefragmentRequest{}),
		fixed(pb.Maintenance_Hash_FullMethodName, true, &pb.HashRequest{}),
		fixed(pb.Maintenance_HashKV_FullMethodName, true, &pb.HashKVRequest{}),
		fixed(pb.Maintenance_Snapshot_FullMethodName, true, &pb.SnapshotRequest{}),
		fixed(pb.Maintenance_MoveLeader_FullMethodName, true, &pb.MoveLeaderRequest{TargetID: 5}),
		fixed(pb.Maintenance_Downgrade_FullMethodName, true, &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE, Version: "3.9"}, &pb.DowngradeRequest{Action: pb.DowngradeRequest_ENABLE, Version: "3.9"}, &pb.DowngradeRequest{Action: pb.DowngradeRequest_CANCEL}),
	} {
		all = append(all, part...)
	}
	return all
}

func authRows() []row {
	tries := []proto.Message{
		&pb.AuthenticateRequest{}, &pb.AuthenticateRequest{Name: "root", Password: passwordOf + "root"}, &pb.AuthenticateRequest{Name: "root", Password: "wrong"}, &pb.AuthenticateRequest{Name: "root"},
		&pb.AuthenticateRequest{Name: "nobody", Password: "wrong"}, &pb.AuthenticateRequest{Name: "keyless"}, &pb.AuthenticateRequest{Name: "keyless", Password: "wrong"},
	}
	all := fixed(pb.Auth_Authenticate_FullMethodName, true, tries...)
	all = append(all, fixed(pb.Auth_AuthEnable_FullMethodName, true, &pb.AuthEnableRequest{})...)
	all = append(all, fixed(pb.Auth_AuthDisable_FullMethodName, true, &pb.AuthDisableRequest{})...)
	return append(all, fixed(pb.Auth_AuthStatus_FullMethodName, true, &pb.AuthStatusRequest{})...)
}

func userRows() []row {
	var all []row
	for _, part := range [][]row{
		fixed(pb.Auth_UserAdd_FullMethodName, false, &pb.AuthUserAddRequest{Name: "new", Password: "p"}, &pb.AuthUserAddRequest{Name: "reader", Password: "p"}, &pb.AuthUserAddRequest{Name: "new", Options: &authpb.UserAddOptions{NoPassword: true}}, &pb.AuthUserAddRequest{}, &pb.AuthUserAddRequest{Name: "new"}),
		fixed(pb.Auth_UserGet_FullMethodName, false, &pb.AuthUserGetRequest{Name: "reader"}, &pb.AuthUserGetRequest{Name: "root"}, &pb.AuthUserGetRequest{Name: "404"}),
		{{pb.Auth_UserGet_FullMethodName, "oneself", func(c caller) proto.Message { return &pb.AuthUserGetRequest{Name: c.self} }, false}},
		fixed(pb.Auth_UserList_FullMethodName, false, &pb.AuthUserListRequest{}),
		fixed(pb.Auth_UserDelete_FullMethodName, false, &pb.AuthUserDeleteRequest{Name: "victim"}, &pb.AuthUserDeleteRequest{Name: "root"}, &pb.AuthUserDeleteRequest{Name: "404"}),
		{{pb.Auth_UserDelete_FullMethodName, "oneself", func(c caller) proto.Message { return &pb.AuthUserDeleteRequest{Name: c.self} }, false}},
		fixed(pb.Auth_UserChangePassword_FullMethodName, false, &pb.AuthUserChangePasswordRequest{Name: "victim", Password: "p"}, &pb.AuthUserChangePasswordRequest{Name: "404", Password: "p"}),
		{{pb.Auth_UserChangePassword_FullMethodName, "one's own", func(c caller) proto.Message {
			return &pb.AuthUserChangePasswordRequest{Name: c.self, Password: passwordOf + c.self}
		}, false}},
		fixed(pb.Auth_UserGrantRole_FullMethodName, false, &pb.AuthUserGrantRoleRequest{User: "victim", Role: "reader"}, &pb.AuthUserGrantRoleRequest{User: "victim", Role: "404"}, &pb.AuthUserGrantRoleRequest{User: "404", Role: "reader"}),
		{{pb.Auth_UserGrantRole_FullMethodName, "root to oneself", func(c caller) proto.Message { return &pb.AuthUserGrantRoleRequest{User: c.self, Role: "root"} }, false}},
		fixed(pb.Auth_UserRevokeRole_FullMethodName, false, &pb.AuthUserRevokeRoleRequest{Name: "victim", Role: "spare"}, &pb.AuthUserRevokeRoleRequest{Name: "victim", Role: "reader"}, &pb.AuthUserRevokeRoleRequest{Name: "root", Role: "root"}),
	} {
		all = append(all, part...)
	}
	return all
}

func roleRows() []row {
	read := &authpb.Permission{PermType: authpb.READ, Key: b("x/"), RangeEnd: b("x0")}
	var all []row
	for _, part := range [][]row{
		fixed(pb.Auth_RoleAdd_FullMethodName, false, &pb.AuthRoleAddRequest{Name: "new"}, &pb.AuthRoleAddRequest{Name: "reader"}, &pb.AuthRoleAddRequest{}),
		fixed(pb.Auth_RoleGet_FullMethodName, false, &pb.AuthRoleGetRequest{Role: "reader"}, &pb.AuthRoleGetRequest{Role: "writer"}, &pb.AuthRoleGetRequest{Role: "root"}, &pb.AuthRoleGetRequest{Role: "404"}),
		fixed(pb.Auth_RoleList_FullMethodName, false, &pb.AuthRoleListRequest{}),
		fixed(pb.Auth_RoleDelete_FullMethodName, false, &pb.AuthRoleDeleteRequest{Role: "spare"}, &pb.AuthRoleDeleteRequest{Role: "root"}, &pb.AuthRoleDeleteRequest{Role: "404"}),
		fixed(pb.Auth_RoleGrantPermission_FullMethodName, false, &pb.AuthRoleGrantPermissionRequest{Name: "spare", Perm: read}, &pb.AuthRoleGrantPermissionRequest{Name: "reader", Perm: read}, &pb.AuthRoleGrantPermissionRequest{Name: "404", Perm: read}, &pb.AuthRoleGrantPermissionRequest{Name: "spare"},
			&pb.AuthRoleGrantPermissionRequest{Name: "spare", Perm: &authpb.Permission{Key: b("z"), RangeEnd: b("a")}}, &pb.AuthRoleGrantPermissionRequest{Name: "root", Perm: read}),
		fixed(pb.Auth_RoleRevokePermission_FullMethodName, false, &pb.AuthRoleRevokePermissionRequest{Role: "writer", Key: b("w/"), RangeEnd: b("w0")}, &pb.AuthRoleRevokePermissionRequest{Role: "writer", Key: b("w/")}, &pb.AuthRoleRevokePermissionRequest{Role: "404", Key: b("w/")}),
	} {
		all = append(all, part...)
	}
	return all
}

// queueRows are calls of locks and elections. Nobody waits: names are free, or have a leader.
func queueRows() []row {
	var all []row
	for _, at := range []string{"r/", "w/", "x/"} {
		key := func(name string) []byte { return fmt.Appendf(nil, "%s%s", at, name) }
		leader := &electionpb.LeaderKey{Name: key("e"), Key: key("e/1"), Rev: 1, Lease: leaseOfNone}
		for _, part := range [][]row{
			fixed(lockpb.Lock_Lock_FullMethodName, false, &lockpb.LockRequest{Name: key("lock"), Lease: leaseOfNone}, &lockpb.LockRequest{Name: key("lock"), Lease: 404}),
			fixed(lockpb.Lock_Lock_FullMethodName, true, &lockpb.LockRequest{Name: key("lock")}),
			fixed(lockpb.Lock_Unlock_FullMethodName, false, &lockpb.UnlockRequest{Key: key("1")}),
			fixed(electionpb.Election_Campaign_FullMethodName, false, &electionpb.CampaignRequest{Name: key("free"), Lease: leaseOfNone, Value: b("me")}),
			fixed(electionpb.Election_Proclaim_FullMethodName, false, &electionpb.ProclaimRequest{Leader: leader, Value: b("me")}),
			fixed(electionpb.Election_Leader_FullMethodName, false, &electionpb.LeaderRequest{Name: key("e")}),
			fixed(electionpb.Election_Observe_FullMethodName, false, &electionpb.LeaderRequest{Name: key("e")}),
			fixed(electionpb.Election_Resign_FullMethodName, false, &electionpb.ResignRequest{Leader: leader}),
		} {
			all = append(all, part...)
		}
	}
	return all
}
