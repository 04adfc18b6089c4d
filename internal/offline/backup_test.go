package offline

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// v2Entry is the data of a request of the v2 API, as etcd up to 3.4 writes it.
func v2Entry(method, path, value string) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 77)
	for i, s := range []string{method, path, value} {
		b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(i+2), protowire.BytesType), s)
	}
	return b
}

func v3Entry(t *testing.T, r *pb.InternalRaftRequest) []byte {
	t.Helper()
	r.Header = &pb.RequestHeader{ID: 5}
	b, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lived makes the data directory of a member that runs no more: a .snap file at entry 10, and seven entries behind it. Its
// v2 keys are in the .snap file (inSnap), in the log (inLog), or nowhere.
func lived(t *testing.T, inSnap, inLog bool) string {
	t.Helper()
	dir := t.TempDir()
	snapDir := filepath.Join(dir, "member", "snap")
	if err := os.MkdirAll(snapDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh(t), filepath.Join(snapDir, "db")); err != nil {
		t.Fatal(err)
	}
	conf := &raftpb.ConfState{Voters: []uint64{7, 8}}
	data := snap.EncodeV2(snap.V2Members{Members: []schema.Member{{ID: 7, PeerURLs: []string{"http://old:1"}}}})
	if inSnap {
		data = bytes.Replace(data, []byte(`"1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{`),
			[]byte(`"1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"a":{"Path":"/1/a","Value":"1"}`), 1)
	}
	err := snap.Save(vfs.OS, snapDir, snap.Snapshot{Index: 10, Term: 2, ConfState: conf, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	key := "/0/version"
	if inLog {
		key = "/1/b"
	}
	cc, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(9))})
	if err != nil {
		t.Fatal(err)
	}
	var ents []*raftpb.Entry
	for i, d := range [][]byte{
		nil, v2Entry("PUT", key, "3.4.0"), cc, v2Entry("PUT", "/0/members/7/attributes", `{"name":"old"}`),
		v3Entry(t, &pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte("a")}}), v2Entry("SYNC", "", ""),
		v3Entry(t, &pb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{Member_ID: 7}}),
	} {
		e := &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Term: new(uint64(2)), Index: new(uint64(11 + i)), Data: d}
		if i == 2 {
			e.Type = raftpb.EntryConfChange.Enum()
		}
		ents = append(ents, e)
	}
	w, err := wal.Create(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Metadata{NodeID: 7, ClusterID: 70}, wal.Options{SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		w.Append(wal.Batch{Mark: &wal.Mark{Index: 10, Term: 2, ConfState: conf}}),
		w.Append(wal.Batch{Entries: ents, State: &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(7)), Commit: new(uint64(17))}}),
		w.Sync(), w.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBackup(t *testing.T) {
	for _, x := range []struct {
		name          string
		inSnap, inLog bool
		withV3        bool
		v3            bool // whether the v3 data is in the copy
		kept          []uint64
	}{
		{"v2 keys in the .snap file", true, false, false, false, []uint64{12, 16}},
		{"v2 keys in the log", false, true, false, false, []uint64{12, 16}},
		{"v2 keys and v3", true, true, true, true, []uint64{12, 15, 16}},
		{"no v2 keys of etcd's own", false, false, false, true, []uint64{12, 15, 16}},
	} {
		t.Run(x.name, func(t *testing.T) {
			from, to := lived(t, x.inSnap, x.inLog), filepath.Join(t.TempDir(), "copy")
			if err := (Backup{DataDir: from, ToDir: to, WithV3: x.withV3, Logger: zap.NewNop(), segmentBytes: 64 << 10}).Run(); err != nil {
				t.Fatal(err)
			}
			checkBackupLog(t, from, to, x.kept)
			checkBackupState(t, to, x.v3)
		})
	}
}

func checkBackupLog(t *testing.T, from, to string, kept []uint64) {
	t.Helper()
	was, err := wal.ReadOnly(vfs.OS, filepath.Join(from, "member", "wal"), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	is, err := wal.ReadOnly(vfs.OS, filepath.Join(to, "member", "wal"), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if is.NodeID == was.NodeID || is.ClusterID == was.ClusterID || is.NodeID == 0 || is.ClusterID == 0 {
		t.Errorf("the copy is of member %x of cluster %x", is.NodeID, is.ClusterID)
	}
	if is.Mark.Index != 10 || is.State.GetCommit() != 17 || len(is.Entries) != len(was.Entries) {
		t.Fatalf("mark %d, commit index %d, %d entries", is.Mark.Index, is.State.GetCommit(), len(is.Entries))
	}
	var have []uint64
	for i, e := range is.Entries {
		if e.GetIndex() != was.Entries[i].GetIndex() || e.GetTerm() != 2 || e.GetType() != raftpb.EntryNormal {
			t.Errorf("entry %d is %v", i, e)
		}
		if len(e.Data) > 0 {
			have = append(have, e.GetIndex())
			if !bytes.Equal(e.Data, was.Entries[i].Data) {
				t.Errorf("entry %d holds %q, not %q", i, e.Data, was.Entries[i].Data)
			}
		}
	}
	if len(have) != len(kept) {
		t.Errorf("entries %v are kept, not %v", have, kept)
	}
	if _, err := snap.Load(vfs.OS, filepath.Join(to, "member", "snap"), func(index, term uint64) bool { return index == 10 && term == 2 }); err != nil {
		t.Error(err)
	}
}

func checkBackupState(t *testing.T, to string, v3 bool) {
	t.Helper()
	s, err := store.OpenReadOnly(statePath(to), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	count := func(b schema.Bucket) (n int) {
		if err := s.ForEach(b, func(k, v []byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(schema.Members) + count(schema.MembersRemoved) + count(schema.Cluster); n != 0 {
		t.Errorf("%d records of the members are left", n)
	}
	index, err := s.Get(schema.Meta, schema.ConsistentIndexKey)
	want := uint64(17) // that of the log's end, which is the state file's too
	if err != nil || len(index) != 8 || binary.BigEndian.Uint64(index) != want {
		t.Errorf("consistent index %x, %v", index, err)
	}
	if n := count(schema.Key); (n > 0) != v3 {
		t.Errorf("%d revisions in the copy", n)
	}
}

func TestBackupRefused(t *testing.T) {
	from := lived(t, true, true)
	there := t.TempDir()
	if err := os.WriteFile(filepath.Join(there, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	noSnap := lived(t, true, true)
	if err := os.Remove(filepath.Join(noSnap, "member", "snap", "0000000000000002-000000000000000a.snap")); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name string
		b    Backup
		want string
	}{
		{"something is there", Backup{DataDir: from, ToDir: there}, "not empty"},
		{"no directory", Backup{DataDir: filepath.Join(from, "none"), ToDir: filepath.Join(there, "copy")}, "no such file"},
		{"no .snap file", Backup{DataDir: noSnap, ToDir: filepath.Join(there, "copy")}, "the .snap file that the log goes on from"},
	} {
		t.Run(x.name, func(t *testing.T) {
			x.b.Logger = zap.NewNop()
			if err := x.b.Run(); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, want %q", err, x.want)
			}
			if _, err := os.Stat(filepath.Join(there, "copy")); err == nil {
				t.Error("something was left")
			}
		})
	}
}
