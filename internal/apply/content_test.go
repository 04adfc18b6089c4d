package apply

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Whatever a log holds, it is told apart or refused.
func FuzzContentOf(f *testing.F) {
	f.Add([]byte{0xff})
	f.Add([]byte("\x08\x07\x12\x03PUT\x1a\x04/1/a"))
	f.Add([]byte("\x12\x0d\x08\x07\x12\x03PUT\x1a\x04/1/a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ContentOf(&raftpb.Entry{Index: new(uint64(1)), Data: data})
		if err != nil && !errors.Is(err, ErrUnknownRequest) || err == nil && (got < ContentNone || got > ContentV3) || (got == ContentNone && err == nil) != (len(data) == 0) {
			t.Errorf("%d, %v", got, err)
		}
	})
}

func TestContentOf(t *testing.T) {
	v2 := func(method, path string) []byte {
		b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)
		b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), method)
		return protowire.AppendString(protowire.AppendTag(b, 3, protowire.BytesType), path)
	}
	v3 := func(r *pb.InternalRaftRequest) []byte {
		b, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	inside := protowire.AppendBytes(protowire.AppendTag(nil, v2Field, protowire.BytesType), v2("PUT", "/1/a"))
	for name, x := range map[string]struct {
		typ  raftpb.EntryType
		data []byte
		want Content
	}{
		"empty":                {data: nil, want: ContentNone},
		"conf change":          {typ: raftpb.EntryConfChange, data: []byte("x"), want: ContentMembers},
		"conf change V2":       {typ: raftpb.EntryConfChangeV2, data: []byte("x"), want: ContentMembers},
		"v2 put":               {data: v2("PUT", "/1/a"), want: ContentV2},
		"v2 post":              {data: v2("POST", "/1/a"), want: ContentV2},
		"v2 delete":            {data: v2("DELETE", "/1/a"), want: ContentV2},
		"v2 user":              {data: v2("PUT", "/2/users/ann"), want: ContentV2},
		"v2 inside of v3":      {data: inside, want: ContentV2},
		"v2 clock":             {data: v2("SYNC", ""), want: ContentV2Other},
		"v2 read":              {data: v2("QGET", "/1/a"), want: ContentV2Other},
		"v2 version":           {data: v2("PUT", "/0/version"), want: ContentV2Other},
		"v2 attributes":        {data: v2("PUT", "/0/members/7/attributes"), want: ContentMembers},
		"v3 put":               {data: v3(&pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte("a")}}), want: ContentV3},
		"v3 attributes":        {data: v3(&pb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{Member_ID: 7}}), want: ContentMembers},
		"v3 version":           {data: v3(&pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: "3.6.0"}}), want: ContentV3},
		"v3 lease expiry time": {data: v3(&pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: 1, TTL: 2}}), want: ContentV3},
	} {
		got, err := ContentOf(&raftpb.Entry{Type: x.typ.Enum(), Index: new(uint64(1)), Data: x.data})
		if err != nil || got != x.want {
			t.Errorf("%s: %d, %v; want %d", name, got, err, x.want)
		}
	}
	if _, err := ContentOf(&raftpb.Entry{Index: new(uint64(1)), Data: []byte{0xff}}); !errors.Is(err, ErrUnknownRequest) {
		t.Errorf("bytes that are nothing: %v", err)
	}
}
