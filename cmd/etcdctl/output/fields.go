package output

import (
	"bufio"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fields prints every field of an answer as `"Name" : value`, one a line. Byte strings are quoted as Go does.
type fields struct {
	hex bool
}

func (f *fields) refuse(answer any) error {
	switch answer.(type) {
	case *Downgrade, *Added, *Changed, *Moved, *User, *clientv3.AuthUserListResponse, *clientv3.AuthStatusResponse:
		return unsupported("fields")
	}
	return nil
}

func (f *fields) lay(w *bufio.Writer, answer any) error {
	switch r := answer.(type) {
	case *clientv3.PutResponse:
		f.put(w, (*pb.PutResponse)(r))
	case *clientv3.GetResponse:
		f.get(w, (*pb.RangeResponse)(r))
	case *clientv3.DeleteResponse:
		f.del(w, (*pb.DeleteRangeResponse)(r))
	case *clientv3.TxnResponse:
		f.txn(w, (*pb.TxnResponse)(r))
	case *clientv3.WatchResponse:
		f.watch(w, r)
	case *clientv3.LeaseGrantResponse:
		f.lease(w, r.ResponseHeader, r.ID, r.TTL)
	case *Revoked:
		f.header(w, r.Header)
	case *clientv3.LeaseKeepAliveResponse:
		f.lease(w, r.ResponseHeader, r.ID, r.TTL)
	case *Remaining:
		f.lease(w, r.ResponseHeader, r.ID, r.TTL)
		field(w, "GrantedTTL", r.GrantedTTL)
		for _, k := range r.Keys {
			quoted(w, "Key", k)
		}
	case *clientv3.LeaseLeasesResponse:
		f.header(w, r.ResponseHeader)
		for _, l := range r.Leases {
			f.leaseID(w, "ID", int64(l.ID))
		}
	case *clientv3.MemberListResponse:
		f.members(w, (*pb.MemberListResponse)(r))
	case *clientv3.AlarmResponse:
		f.alarms(w, (*pb.AlarmResponse)(r))
	case *AuthChange, *Role, *clientv3.AuthRoleListResponse:
		f.auth(w, r)
	case []Health:
		f.health(w, r)
	case []Status:
		for _, s := range r {
			f.status(w, s)
		}
	case []HashKV:
		for _, h := range r {
			f.header(w, h.Response.Header)
			quoted(w, "Endpoint", h.Endpoint)
			field(w, "Hash", h.Response.Hash)
			field(w, "HashRevision", h.Response.HashRevision)
			fmt.Fprintln(w)
		}
	default:
		return unsupported("fields")
	}
	return nil
}

func field(w *bufio.Writer, name string, value any) { fmt.Fprintf(w, "%q : %v\n", name, value) }

func quoted[T string | []byte](w *bufio.Writer, name string, value T) {
	fmt.Fprintf(w, "%q : %q\n", name, value)
}

// memberID prints a member's or the cluster's ID: decimal, or hexadecimal without padding under --hex.
func (f *fields) memberID(w *bufio.Writer, name string, id uint64) {
	if f.hex {
		field(w, name, types.ID(id))
		return
	}
	field(w, name, id)
}

// leaseID prints a lease's ID: decimal, or 16 hexadecimal digits under --hex.
func (f *fields) leaseID(w *bufio.Writer, name string, id int64) {
	if f.hex {
		field(w, name, fmt.Sprintf("%016x", id))
		return
	}
	field(w, name, id)
}

// header leaves the revision out where there is none: the answers of the cluster and auth calls carry no revision.
func (f *fields) header(w *bufio.Writer, h *pb.ResponseHeader) {
	f.memberID(w, "ClusterID", h.GetClusterId())
	f.memberID(w, "MemberID", h.GetMemberId())
	if h.GetRevision() > 0 {
		field(w, "Revision", h.GetRevision())
	}
	field(w, "RaftTerm", h.GetRaftTerm())
}

func (f *fields) kv(w *bufio.Writer, prefix string, kv *mvccpb.KeyValue) {
	quoted(w, prefix+"Key", kv.GetKey())
	field(w, prefix+"CreateRevision", kv.GetCreateRevision())
	field(w, prefix+"ModRevision", kv.GetModRevision())
	field(w, prefix+"Version", kv.GetVersion())
	quoted(w, prefix+"Value", kv.GetValue())
	f.leaseID(w, prefix+"Lease", kv.GetLease())
}

func (f *fields) put(w *bufio.Writer, r *pb.PutResponse) {
	f.header(w, r.GetHeader())
	if r.GetPrevKv() != nil {
		f.kv(w, "Prev", r.GetPrevKv())
	}
}

func (f *fields) get(w *bufio.Writer, r *pb.RangeResponse) {
	f.header(w, r.GetHeader())
	for _, kv := range r.GetKvs() {
		f.kv(w, "", kv)
	}
	field(w, "More", r.GetMore())
	field(w, "Count", r.GetCount())
}

func (f *fields) del(w *bufio.Writer, r *pb.DeleteRangeResponse) {
	f.header(w, r.GetHeader())
	field(w, "Deleted", r.GetDeleted())
	for _, kv := range r.GetPrevKvs() {
		f.kv(w, "Prev", kv)
	}
}

func (f *fields) txn(w *bufio.Writer, r *pb.TxnResponse) {
	f.header(w, r.GetHeader())
	field(w, "Succeeded", r.GetSucceeded())
	for _, op := range r.GetResponses() {
		switch v := op.GetResponse().(type) {
		case *pb.ResponseOp_ResponseRange:
			f.get(w, v.ResponseRange)
		case *pb.ResponseOp_ResponsePut:
			f.put(w, v.ResponsePut)
		case *pb.ResponseOp_ResponseDeleteRange:
			f.del(w, v.ResponseDeleteRange)
		default:
			quoted(w, "Unknown", fmt.Sprintf("%+v", v))
		}
	}
}

func (f *fields) watch(w *bufio.Writer, r *clientv3.WatchResponse) {
	f.header(w, r.Header)
	for _, e := range r.Events {
		field(w, "Type", e.GetType())
		if e.GetPrevKv() != nil {
			f.kv(w, "Prev", e.GetPrevKv())
		}
		f.kv(w, "", e.GetKv())
	}
}

func (f *fields) lease(w *bufio.Writer, h *pb.ResponseHeader, id clientv3.LeaseID, ttl int64) {
	f.header(w, h)
	f.leaseID(w, "ID", int64(id))
	field(w, "TTL", ttl)
}

func (f *fields) members(w *bufio.Writer, r *pb.MemberListResponse) {
	f.header(w, r.GetHeader())
	for _, m := range r.GetMembers() {
		f.memberID(w, "ID", m.GetID())
		quoted(w, "Name", m.GetName())
		for _, u := range m.GetPeerURLs() {
			quoted(w, "PeerURL", u)
		}
		for _, u := range m.GetClientURLs() {
			quoted(w, "ClientURL", u)
		}
		field(w, "IsLearner", m.GetIsLearner())
		fmt.Fprintln(w)
	}
}

func (f *fields) alarms(w *bufio.Writer, r *pb.AlarmResponse) {
	f.header(w, r.GetHeader())
	for _, a := range r.GetAlarms() {
		f.memberID(w, "MemberID", a.GetMemberID())
		field(w, "AlarmType", a.GetAlarm())
		fmt.Fprintln(w)
	}
}

func (f *fields) health(w *bufio.Writer, hs []Health) {
	for _, h := range hs {
		quoted(w, "Endpoint", h.Endpoint)
		field(w, "Health", h.Healthy)
		field(w, "Took", h.Took)
		field(w, "Error", h.Error)
		fmt.Fprintln(w)
	}
}

func (f *fields) status(w *bufio.Writer, s Status) {
	r := (*pb.StatusResponse)(s.Response)
	f.header(w, r.GetHeader())
	quoted(w, "Version", r.GetVersion())
	quoted(w, "StorageVersion", r.GetStorageVersion())
	field(w, "DBSize", r.GetDbSize())
	field(w, "DBSizeInUse", r.GetDbSizeInUse())
	field(w, "DBSizeQuota", r.GetDbSizeQuota())
	field(w, "Leader", r.GetLeader())
	field(w, "IsLearner", r.GetIsLearner())
	field(w, "RaftIndex", r.GetRaftIndex())
	field(w, "RaftAppliedIndex", r.GetRaftAppliedIndex())
	field(w, "Errors", r.GetErrors())
	quoted(w, "Endpoint", s.Endpoint)
	quoted(w, "DowngradeTargetVersion", r.GetDowngradeInfo().GetTargetVersion())
	field(w, "DowngradeEnabled", r.GetDowngradeInfo().GetEnabled())
	fmt.Fprintln(w)
}
