package main

import (
	"context"
	"errors"
	"net"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

const fakeLease = 0x7a5b000000c0ffee

// fake answers every call with fixed values, whatever was asked before.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer
	fakeAuth

	alarms bool
	addr   string
	scheme string         // of the client URL that a member is listed with
	txn    *pb.TxnRequest // the last one
	blobs  [][]byte       // what Snapshot sends before it ends with ended
	ended  error
}

// startFake serves a fake on a loopback port until the test ends.
func startFake(t *testing.T, alarms bool) *fake {
	t.Helper()
	return startFakeWith(t, alarms)
}

func startFakeWith(t *testing.T, alarms bool, o ...grpc.ServerOption) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{alarms: alarms, addr: l.Addr().String(), scheme: "http://"}
	s := grpc.NewServer(o...)
	pb.RegisterKVServer(s, f)
	pb.RegisterWatchServer(s, f)
	pb.RegisterLeaseServer(s, f)
	pb.RegisterClusterServer(s, f)
	pb.RegisterMaintenanceServer(s, f)
	pb.RegisterAuthServer(s, f)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return f
}

func header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 0xcdf818194e3a8c32, MemberId: 0x8e9e05c52164694d, Revision: 42, RaftTerm: 7}
}

func headerNoRevision() *pb.ResponseHeader {
	h := header()
	h.Revision = 0
	return h
}

func kvs() []*mvccpb.KeyValue {
	return []*mvccpb.KeyValue{
		{Key: []byte("key"), CreateRevision: 3, ModRevision: 40, Version: 2, Value: []byte("bin\x00\x7f\xffé\"q\""), Lease: fakeLease},
		{Key: []byte("key two"), CreateRevision: 41, ModRevision: 41, Version: 1, Value: []byte("second")},
	}
}

func (f *fake) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	a := &pb.RangeResponse{Header: header(), Count: 5}
	switch {
	case string(r.Key) == "old":
		return nil, rpctypes.ErrGRPCCompacted
	case string(r.Key) == "none", r.CountOnly:
		return a, nil
	}
	a.Kvs, a.More = kvs(), true
	for _, kv := range a.Kvs {
		if r.KeysOnly {
			kv.Value = nil
		}
	}
	return a, nil
}

func (f *fake) RangeStream(_ *pb.RangeRequest, s grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	for i, kv := range kvs() {
		piece := &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv}}
		if i == 1 {
			piece.Header, piece.Count = header(), 2
		}
		if err := s.Send(&pb.RangeStreamResponse{RangeResponse: piece}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if string(r.Key) == "full" {
		return nil, rpctypes.ErrGRPCNoSpace
	}
	a := &pb.PutResponse{Header: header()}
	if r.PrevKv {
		a.PrevKv = kvs()[0]
	}
	return a, nil
}

func (f *fake) DeleteRange(_ context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	a := &pb.DeleteRangeResponse{Header: header(), Deleted: 2}
	if r.PrevKv {
		a.PrevKvs = kvs()
	}
	return a, nil
}

func (f *fake) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	f.txn = r
	a := &pb.TxnResponse{Header: header(), Succeeded: len(r.Compare) < 2}
	for _, op := range r.Success {
		switch op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			a.Responses = append(a.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{
				ResponseRange: &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 42}, Kvs: kvs(), Count: 2}}})
		case *pb.RequestOp_RequestPut:
			a.Responses = append(a.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{
				ResponsePut: &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 42}, PrevKv: kvs()[1]}}})
		case *pb.RequestOp_RequestDeleteRange:
			a.Responses = append(a.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{
				ResponseDeleteRange: &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{Revision: 42}, Deleted: 1, PrevKvs: kvs()[:1]}}})
		}
	}
	return a, nil
}

func (f *fake) Compact(context.Context, *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return &pb.CompactionResponse{Header: header()}, nil
}

// Watch sends two events, a progress notice, and ends the watch as compacted.
func (f *fake) Watch(s grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	put := &mvccpb.Event{Type: mvccpb.PUT, Kv: kvs()[0], PrevKv: kvs()[1]}
	del := &mvccpb.Event{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte("key"), ModRevision: 42}}
	for _, r := range []*pb.WatchResponse{
		{Header: header(), Created: true},
		{Header: header(), Events: []*mvccpb.Event{put, del}},
		{Header: header()},
		{Header: header(), Canceled: true, CompactRevision: 30},
	} {
		if err := s.Send(r); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return nil
}

func (f *fake) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{Header: header(), ID: fakeLease, TTL: r.TTL}, nil
}

func (f *fake) LeaseRevoke(context.Context, *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return &pb.LeaseRevokeResponse{Header: header()}, nil
}

func (f *fake) LeaseKeepAlive(s grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	r, err := s.Recv()
	if err != nil {
		return err
	}
	ttl := int64(300)
	if r.ID == 1 {
		ttl = 0 // gone
	}
	return s.Send(&pb.LeaseKeepAliveResponse{Header: header(), ID: r.ID, TTL: ttl})
}

func (f *fake) LeaseTimeToLive(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if r.ID == 1 {
		return &pb.LeaseTimeToLiveResponse{Header: header(), ID: r.ID, TTL: -1}, nil
	}
	a := &pb.LeaseTimeToLiveResponse{Header: header(), ID: r.ID, TTL: 299, GrantedTTL: 300}
	if r.Keys {
		a.Keys = [][]byte{[]byte("key"), []byte("key two")}
	}
	return a, nil
}

func (f *fake) LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return &pb.LeaseLeasesResponse{Header: header(), Leases: []*pb.LeaseStatus{{ID: fakeLease}, {ID: 5}}}, nil
}

func (f *fake) members() []*pb.Member {
	return []*pb.Member{
		{ID: 0x8e9e05c52164694d, Name: "etcd0", PeerURLs: []string{"http://127.0.0.1:12380"}, ClientURLs: []string{f.scheme + f.addr}},
		{ID: 0x91bc3c398fb3c146, PeerURLs: []string{"http://127.0.0.1:22380", "http://10.0.0.1:22380"}},
		{ID: 0xfd422379fda50e4, Name: "learner", PeerURLs: []string{"http://127.0.0.1:32380"}, IsLearner: true},
	}
}

func (f *fake) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return &pb.MemberListResponse{Header: headerNoRevision(), Members: f.members()}, nil
}

func (f *fake) MemberAdd(_ context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	m := &pb.Member{ID: 0x91bc3c398fb3c146, PeerURLs: r.PeerURLs, IsLearner: r.IsLearner}
	all := f.members()
	all[1] = m
	switch r.PeerURLs[0] {
	case "nonsense":
		return nil, rpctypes.ErrGRPCMemberBadURLs
	case "http://taken:1":
		return nil, rpctypes.ErrGRPCPeerURLExist
	case "http://few:1": // without a code, as etcd's
		return nil, errors.New(rpctypes.ErrMemberNotEnoughStarted.Error())
	case "http://short:1":
		m.ID = 0xabc // padded with spaces
	}
	return &pb.MemberAddResponse{Header: headerNoRevision(), Member: m, Members: all}, nil
}

func (f *fake) MemberRemove(_ context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	if r.ID == 1 {
		return nil, rpctypes.ErrGRPCMemberNotFound
	}
	return &pb.MemberRemoveResponse{Header: headerNoRevision(), Members: f.members()[:2]}, nil
}

func (f *fake) MemberUpdate(_ context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	all := f.members()
	all[1].PeerURLs = r.PeerURLs
	return &pb.MemberUpdateResponse{Header: headerNoRevision(), Members: all}, nil
}

func (f *fake) MemberPromote(_ context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	if r.ID == 1 {
		return nil, rpctypes.ErrGRPCLearnerNotReady
	}
	return &pb.MemberPromoteResponse{Header: headerNoRevision(), Members: f.members()}, nil
}

func (f *fake) MoveLeader(_ context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if r.TargetID == 1 {
		return nil, rpctypes.ErrGRPCBadLeaderTransferee
	}
	return &pb.MoveLeaderResponse{Header: header()}, nil
}

func (f *fake) Alarm(_ context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	a := &pb.AlarmResponse{Header: header()}
	if r.Action == pb.AlarmRequest_DEACTIVATE {
		a.Alarms = []*pb.AlarmMember{{MemberID: r.MemberID, Alarm: r.Alarm}}
		return a, nil
	}
	if f.alarms {
		a.Alarms = []*pb.AlarmMember{
			{MemberID: 0x8e9e05c52164694d, Alarm: pb.AlarmType_NOSPACE},
			{MemberID: 0x91bc3c398fb3c146, Alarm: pb.AlarmType_CORRUPT},
		}
	}
	return a, nil
}

func (f *fake) Defragment(context.Context, *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if f.alarms {
		return nil, rpctypes.ErrGRPCNoSpace
	}
	return &pb.DefragmentResponse{}, nil
}

func (f *fake) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{
		Header: header(), Version: "3.7.3", StorageVersion: "3.7.0", DbSize: 123456, DbSizeInUse: 100000,
		DbSizeQuota: 2 << 30, Leader: 0x8e9e05c52164694d, RaftIndex: 1234, RaftTerm: 7, RaftAppliedIndex: 1230,
		Errors:        []string{"memberID:1 alarm:NOSPACE ", "etcdserver: no leader"},
		DowngradeInfo: &pb.DowngradeInfo{Enabled: true, TargetVersion: "3.6.0"},
	}, nil
}

func (f *fake) Downgrade(_ context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	if r.Version == "nonsense" {
		return nil, rpctypes.ErrGRPCWrongDowngradeVersionFormat
	}
	return &pb.DowngradeResponse{Header: header(), Version: "3.7"}, nil
}

func (f *fake) HashKV(_ context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	if r.Revision > 42 {
		return nil, rpctypes.ErrGRPCFutureRev
	}
	return &pb.HashKVResponse{Header: header(), Hash: 3735928559, CompactRevision: 30, HashRevision: 42}, nil
}
