package apply

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func TestNeededVersion(t *testing.T) {
	id := &pb.RequestHeader{ID: 1}
	put := &pb.InternalRaftRequest{Header: id, Put: &pb.PutRequest{Key: []byte("k")}}
	for _, c := range []struct {
		what string
		reqs []*pb.InternalRaftRequest
		want string
	}{
		{"a put", []*pb.InternalRaftRequest{put}, "3.0.0"},
		{"an option of a later version", []*pb.InternalRaftRequest{{Header: id, Put: &pb.PutRequest{Key: []byte("k"), IgnoreLease: true}}}, "3.2.0"},
		{"a checkpoint", []*pb.InternalRaftRequest{put, {Header: id, LeaseCheckpoint: &pb.LeaseCheckpointRequest{}}}, "3.4.0"},
		{"a cluster version", []*pb.InternalRaftRequest{{Header: id, ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: "3.7.0"}}, put}, "3.5.0"},
		{"an alarm", []*pb.InternalRaftRequest{{Header: id, Alarm: &pb.AlarmRequest{Alarm: pb.AlarmType_CORRUPT}}}, "3.3.0"},
		{"a nested put", []*pb.InternalRaftRequest{{Header: id, Txn: &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{}}}}}}}, "3.3.0"},
		{"etcd's own test of it", []*pb.InternalRaftRequest{{Header: id, DowngradeVersionTest: &pb.DowngradeVersionTestRequest{Ver: "3.8.0"}}}, "3.8.0"},
	} {
		ents := []*raftpb.Entry{{Index: new(uint64(1))}}
		for _, r := range c.reqs {
			data, err := proto.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			ents = append(ents, &raftpb.Entry{Data: data})
		}
		got, err := NeededVersion(ents)
		if err != nil || got.String() != c.want {
			t.Errorf("%s needs %s, %v; want %s", c.what, &got, err, c.want)
		}
	}
}
