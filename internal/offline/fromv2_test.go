package offline

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/kit/wire"
	"keelson/internal/state/v2store"
	"keelson/internal/state/v2tree"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

const (
	selfID = 7 // the member whose directories are made here
	epoch  = 2_000_000_000
)

// stopped is a clock that stands at epoch.
type stopped struct{ clock.Clock }

func (stopped) Now() time.Time { return time.Unix(epoch, 0) }

// v2dirSpec is a directory to make.
type v2dirSpec struct {
	ents    []*raftpb.Entry
	commit  uint64 // 0: all
	ci      uint64 // of the state file
	version string // of storage, "" for 3.5 and older
	members []uint64
	puts    []store.Op
	mark    *wal.Mark
	snap    string // JSON of the v2 store at mark
}

// make makes the directory.
func (s v2dirSpec) make(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	snapDir := filepath.Join(dir, "member", "snap")
	if err := os.MkdirAll(snapDir, 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(vfs.OS, statePath(dir), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &store.Batch{Index: s.ci, Term: 1}
	for _, op := range s.puts {
		b.Put(op.Bucket, op.Key, op.Value)
	}
	if s.version != "" {
		b.Put(schema.Meta, schema.StorageVersionKey, []byte(s.version))
		for _, id := range s.members {
			b.Put(schema.Members, schema.MemberKey(id), schema.EncodeMember(schema.Member{ID: id, PeerURLs: []string{"http://127.0.0.1:1"}}))
		}
	}
	st.Append(b)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := wal.Create(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Metadata{NodeID: selfID, ClusterID: 1}, wal.Options{SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if s.commit == 0 && len(s.ents) > 0 {
		s.commit = s.ents[len(s.ents)-1].GetIndex()
	}
	batch := wal.Batch{Entries: s.ents, State: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(selfID)), Commit: &s.commit}}
	if err := w.Append(batch); err != nil {
		t.Fatal(err)
	}
	if s.mark != nil {
		if err := errors.Join(w.Append(wal.Batch{Mark: s.mark}), w.Append(wal.Batch{State: batch.State})); err != nil {
			t.Fatal(err)
		}
		file := snap.Snapshot{Index: s.mark.Index, Term: s.mark.Term, ConfState: s.mark.ConfState, Data: []byte(s.snap)}
		if err := snap.Save(vfs.OS, snapDir, file); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// entries makes a log that adds members and goes on with reqs: v2 requests, *pb.PutRequest or nil for an empty entry.
func entries(t *testing.T, members []uint64, reqs ...any) (ents []*raftpb.Entry) {
	t.Helper()
	add := func(typ raftpb.EntryType, data []byte) {
		ents = append(ents, &raftpb.Entry{Type: typ.Enum(), Term: new(uint64(1)), Index: new(uint64(len(ents) + 1)), Data: data})
	}
	for _, id := range members {
		ctx := schema.EncodeMember(schema.Member{ID: id, PeerURLs: []string{fmt.Sprintf("http://127.0.0.1:%d", id)}})
		data, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: &id, Context: ctx})
		if err != nil {
			t.Fatal(err)
		}
		add(raftpb.EntryConfChange, data)
	}
	for i, r := range reqs {
		switch r := r.(type) {
		case nil:
			add(raftpb.EntryNormal, nil)
		case v2store.Request:
			add(raftpb.EntryNormal, protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), v2bytes(r)))
		case *pb.PutRequest:
			data, err := proto.Marshal(&pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: uint64(i + 1)}, Put: r})
			if err != nil {
				t.Fatal(err)
			}
			add(raftpb.EntryNormal, data)
		}
	}
	return ents
}

// v2bytes encodes what the tests need of a request.
func v2bytes(r v2store.Request) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 9)
	for num, v := range []string{2: r.Method, 3: r.Path, 4: r.Value} {
		if num >= 2 {
			b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(num), protowire.BytesType), v)
		}
	}
	for num, v := range map[protowire.Number]uint64{5: protowire.EncodeBool(r.Dir), 9: uint64(r.Expiration), 12: protowire.EncodeBool(r.Recursive), 15: uint64(r.Time)} {
		b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
	}
	return b
}

func set(path, value string) v2store.Request {
	return v2store.Request{Method: v2store.MethodPut, Path: "/1" + path, Value: value}
}

// expiring is set with an expiry, so many seconds after epoch.
func expiring(path, value string, seconds int64) v2store.Request {
	r := set(path, value)
	r.Expiration = (epoch + seconds) * int64(time.Second)
	return r
}

// v3 shows what is in a state file: live keys with their revisions and leases, all leases, and the revision.
func v3(t *testing.T, dir string) string {
	t.Helper()
	f, err := store.OpenReadOnly(statePath(dir), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var keys []string
	live, last := map[string]string{}, int64(0)
	err = f.LoadKeys(func(rev schema.Revision, tombstone bool, b []byte) error {
		kv, err := wire.ParseKeyValue(b)
		key := string(kv.Key)
		if _, seen := live[key]; !seen {
			keys = append(keys, key)
		}
		live[key], last = "", rev.Main
		if !tombstone {
			if kv.Mod != rev.Main {
				return fmt.Errorf("%s at %d says %d", key, rev.Main, kv.Mod)
			}
			live[key] = fmt.Sprintf("%s=%s %d,%d v%d", key, kv.Value, kv.Create, kv.Mod, kv.Version)
			if kv.Lease != 0 {
				live[key] += fmt.Sprintf(" lease %x", kv.Lease)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, k := range keys {
		if live[k] != "" {
			out = append(out, live[k])
		}
	}
	err = f.ForEach(schema.Lease, func(_, v []byte) error {
		id, ttl, _, err := schema.ParseLease(v)
		out = append(out, fmt.Sprintf("lease %x for %d", id, ttl))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(out, fmt.Sprint("at ", last)), "\n")
}

func run(t *testing.T, m FromV2) Moved {
	t.Helper()
	done, err := m.Run()
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func fromV2(dir string) FromV2 {
	return FromV2{DataDir: dir, Prefix: v2tree.DefaultPrefix, Clock: stopped{clock.System}, Stderr: io.Discard}
}

// reopened gives the log of a directory, and the members in the .snap file that it begins with.
func reopened(t *testing.T, dir string) (*wal.Contents, snap.V2Members) {
	t.Helper()
	c, w, err := wal.Open(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := snap.Load(vfs.OS, filepath.Join(dir, "member", "snap"), func(index, term uint64) bool { return index == c.Mark.Index && term == c.Mark.Term })
	if err != nil {
		t.Fatal(err)
	}
	v2, err := snap.DecodeV2(s.Data)
	if err != nil {
		t.Fatal(err)
	}
	return c, v2
}

// A directory of 3.4: v2's index becomes the revisions, what expires gets the lease that ends it first, and log and .snap file
// begin behind it with members alone.
func TestFromV2OfStock(t *testing.T) {
	dirTTL := expiring("/d", "", 100)
	dirTTL.Dir = true
	dir := v2dirSpec{ents: entries(t, []uint64{selfID}, nil,
		v2store.Request{Method: v2store.MethodPut, Path: "/0/members/7/attributes", Value: `{"name":"m","clientURLs":["http://127.0.0.1:9"]}`},
		v2store.Request{Method: v2store.MethodPut, Path: "/0/version", Value: "3.4.0"},
		set("/a/b", "1"), set("/a/b", "2"), dirTTL, set("/d/below", "3"), expiring("/d/soon", "4", 5), expiring("/d/late", "5", 500),
		expiring("/gone", "x", 1), v2store.Request{Method: v2store.MethodSync, Time: (epoch + 2) * int64(time.Second)},
		set("/_hidden", "6"), set("/empty", ""), expiring("/past", "7", -5), v2store.Request{Method: v2store.MethodPut, Path: "/2/users", Dir: true},
	)}.make(t)
	done := run(t, fromV2(dir))
	const want = `/a/b=2 5,5 v1
/d/below=3 7,7 v1 lease 7632000000000006
/d/soon=4 8,8 v1 lease 7632000000000008
/d/late=5 9,9 v1 lease 7632000000000006
/_hidden=6 12,12 v1
/empty= 13,13 v1
/past=7 14,14 v1 lease 763200000000000e
lease 7632000000000006 for 100
lease 7632000000000008 for 5
lease 763200000000000e for 1
at 14`
	if got := v3(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if done.Keys != 7 || done.Leases != 3 || done.Index != 16 || done.Revision != 14 || done.Auth {
		t.Errorf("%+v", done)
	}
	c, v2 := reopened(t, dir)
	if c.Mark.Index != 16 || len(c.Entries) != 0 || c.State.GetCommit() != 16 || len(v2.Members) != 1 || v2.Members[0].Name != "m" || v2.ClusterVersion != "3.4.0" {
		t.Errorf("the log begins at %d with %d entries, %+v", c.Mark.Index, len(c.Entries), v2)
	}
	if m, err := store.ReadMark(statePath(dir)); err != nil || m.Index != 16 {
		t.Errorf("the state file ends at %+v, %v", m, err)
	}
	if again := run(t, fromV2(dir)); again.Keys != 0 || v3(t, dir) != want {
		t.Errorf("once more: %+v\n%s", again, v3(t, dir))
	}
}

// A crash behind the transaction leaves the v2 keys in the log: the next run finds them written.
func TestFromV2AfterCrash(t *testing.T) {
	dir := v2dirSpec{ents: entries(t, []uint64{selfID}, set("/a", "1"), expiring("/b", "2", 50))}.make(t)
	log := filepath.Join(dir, "member", "wal")
	before, err := os.ReadDir(log)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(log, before[0].Name())
	bytesBefore, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	run(t, fromV2(dir))
	want := v3(t, dir)
	if err := os.WriteFile(name, bytesBefore, 0o600); err != nil {
		t.Fatal(err)
	}
	done := run(t, fromV2(dir))
	if done.Keys != 0 || done.Same != 2 || v3(t, dir) != want {
		t.Errorf("%+v\n%s\nbefore\n%s", done, v3(t, dir), want)
	}
	if c, _ := reopened(t, dir); c.Mark.Index != 3 {
		t.Errorf("the log begins at %d", c.Mark.Index)
	}
}

func kv(key, value string, rev int64) store.Op {
	return store.Op{Bucket: schema.Key, Key: schema.RevisionKey(schema.Revision{Main: rev}, false), Value: wire.AppendKeyValue(nil,
		wire.KeyValue{Key: []byte(key), Value: []byte(value), Create: rev, Mod: rev, Version: 1})}
}

// v3 keys stay, what a crash kept from the state file is executed first, and v2 keys follow behind.
func TestFromV2BesideV3(t *testing.T) {
	dir := v2dirSpec{
		ents: entries(t, []uint64{selfID}, set("/a", "1"), &pb.PutRequest{Key: []byte("v3"), Value: []byte("x")}, set("/same", "s"),
			&pb.PutRequest{Key: []byte("late"), Value: []byte("y")}, set("/mine", "v2's"), set("/b", "2"), set("/a", "3")),
		ci: 3, puts: []store.Op{kv("v3", "x", 2), kv("/mine", "v3's", 3), kv("/same", "s", 4)},
	}.make(t)
	done := run(t, fromV2(dir))
	const want = `v3=x 2,2 v1
/mine=v3's 3,3 v1
/same=s 4,4 v1
late=y 5,5 v1
/b=2 6,6 v1
/a=3 7,7 v1
at 7`
	if got := v3(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if done.Keys != 2 || done.Same != 1 || len(done.Kept) != 1 || done.Kept[0] != "/mine" {
		t.Errorf("%+v", done)
	}
}

// node is a key of Keelson's.
func node(path string, n v2tree.Node, rev, lease int64) store.Op {
	n.Action = v2tree.Set
	return store.Op{Bucket: schema.Key, Key: schema.RevisionKey(schema.Revision{Main: rev}, false), Value: wire.AppendKeyValue(nil, wire.KeyValue{
		Key: []byte(v2tree.Prefix(v2tree.DefaultPrefix).Node(path)), Value: n.Encode(), Create: rev, Mod: rev, Version: 1, Lease: lease,
	})}
}

// A directory of Keelson: keys move with their leases, what an expired directory left goes, auth stays, and so does what v3 has
// with another value.
func TestFromV2OfKeelson(t *testing.T) {
	at := func(s int64) int64 { return (epoch + s) * int64(time.Second) }
	p := v2tree.Prefix(v2tree.DefaultPrefix)
	dir := v2dirSpec{version: "3.7.0", members: []uint64{selfID}, ents: entries(t, []uint64{selfID}, nil), ci: 2, puts: []store.Op{
		kv("v3", "x", 2), kv("/mine/a", "v3's", 3),
		node("/d", v2tree.Node{Dir: true, Expiry: at(50)}, 4, 0x11), node("/d/a", v2tree.Node{Value: "1"}, 5, 0),
		node("/d/b", v2tree.Node{Value: "2", Expiry: at(500)}, 6, 0x12), node("/d/c", v2tree.Node{Value: "3", Expiry: at(5)}, 7, 0x13),
		node("/left/over", v2tree.Node{Value: "4"}, 8, 0), node("/mine", v2tree.Node{Dir: true}, 9, 0), node("/mine/a", v2tree.Node{Value: "5"}, 10, 0),
		kv(p.Removed(), "r", 11), kv(p.Order("/d"), "0", 12), kv(p.Auth("users/root"), "u", 13), kv("/_v20", "near", 14),
		{Bucket: schema.Lease, Key: schema.LeaseKey(0x11), Value: schema.AppendLease(nil, 0x11, 60, 0)},
		{Bucket: schema.Lease, Key: schema.LeaseKey(0x13), Value: schema.AppendLease(nil, 0x13, 7, 0)},
	}}.make(t)
	done := run(t, fromV2(dir))
	const want = `v3=x 2,2 v1
/mine/a=v3's 3,3 v1
/_v2/keys/mine=` + "\x02\x01\x01" + ` 9,9 v1
/_v2/keys/mine/a=` + "\x02\x00\x01" + `5 10,10 v1
/_v2/auth/users/root=u 13,13 v1
/_v20=near 14,14 v1
/d/a=1 15,15 v1 lease 11
/d/b=2 16,16 v1 lease 11
/d/c=3 17,17 v1 lease 13
lease 11 for 60
lease 13 for 7
at 24`
	if got := v3(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if done.Keys != 3 || done.Leases != 0 || len(done.Kept) != 1 || !done.Auth {
		t.Errorf("%+v", done)
	}
	if again := run(t, fromV2(dir)); again.Keys != 0 || v3(t, dir) != want {
		t.Errorf("once more: %+v\n%s", again, v3(t, dir))
	}
}

func TestFromV2NoTTL(t *testing.T) {
	dirTTL := expiring("/d", "", 100)
	dirTTL.Dir = true
	dir := v2dirSpec{ents: entries(t, []uint64{selfID}, set("/a", "1"), expiring("/b", "2", 50), dirTTL, set("/d/c", "3"))}.make(t)
	m := fromV2(dir)
	m.NoTTL = true
	run(t, m)
	if got, want := v3(t, dir), "/a=1 2,2 v1\n/d/c=3 5,5 v1 lease 7632000000000004\nlease 7632000000000004 for 100\nat 5"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The .snap file that the log names is where the replay begins; where nothing came after it, it is kept under another name.
func TestFromV2FromSnap(t *testing.T) {
	const tree = `{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"7":{"Children":{
		"raftAttributes":{"Value":"{\"peerURLs\":[\"http://127.0.0.1:7\"]}"},"attributes":{"Value":"{\"name\":\"m\"}"}}}}}}},
		"1":{"Children":{"old":{"CreatedIndex":5,"ModifiedIndex":6,"Value":"1"}}},
		"2":{"Children":{"users":{"Children":{"root":{"Value":"{}"}}}}}}},"CurrentIndex":9}`
	mark := &wal.Mark{Index: 2, Term: 1, ConfState: &raftpb.ConfState{Voters: []uint64{selfID}}}
	for name, more := range map[string][]any{"more came": {set("/old", "2"), set("/new", "3")}, "nothing came": nil} {
		t.Run(name, func(t *testing.T) {
			dir := v2dirSpec{ents: entries(t, []uint64{selfID}, append([]any{set("/never", "x")}, more...)...), mark: mark, snap: tree, ci: 2}.make(t)
			done := run(t, fromV2(dir))
			want := "/old=1 5,6 v1\nat 6"
			if more != nil {
				want = "/old=2 10,10 v1\n/new=3 11,11 v1\nat 11"
			}
			if got := v3(t, dir); got != want || !done.Auth {
				t.Errorf("%+v\n%s\nwant\n%s", done, got, want)
			}
			c, v2 := reopened(t, dir)
			if len(v2.Members) != 1 || v2.Members[0].Name != "m" || c.Mark.Index != 2+uint64(len(more)) {
				t.Errorf("the log begins at %d with %+v", c.Mark.Index, v2)
			}
			_, err := os.Stat(filepath.Join(dir, "member", "snap", "0000000000000001-0000000000000002.snap.v2"))
			if (err == nil) != (more == nil) {
				t.Errorf("the file that was kept: %v", err)
			}
			if again := run(t, fromV2(dir)); again.Keys != 0 || v3(t, dir) != want {
				t.Errorf("once more: %+v\n%s", again, v3(t, dir))
			}
		})
	}
}

// What can't be done right is refused, with nothing written.
func TestFromV2Refused(t *testing.T) {
	three := []uint64{selfID, 8, 9}
	at := func(index uint64) *wal.Mark {
		return &wal.Mark{Index: index, Term: 1, ConfState: &raftpb.ConfState{Voters: []uint64{selfID}}}
	}
	for _, c := range []struct {
		name string
		spec v2dirSpec
		want error
		text string
	}{
		{"an end that may not be committed", v2dirSpec{ents: entries(t, three, set("/a", "1"), set("/b", "1")), commit: 4}, ErrUncommitted, "stop them when nobody writes"},
		{"a log that ends before the state file", v2dirSpec{ents: entries(t, []uint64{selfID}, nil), ci: 9}, ErrBehind, "the log ends at entry 2"},
		{"a log that begins behind the state file", v2dirSpec{ents: entries(t, []uint64{selfID}, nil, nil), mark: at(3), snap: "{}"}, ErrBehind, "the log begins behind entry 3"},
		{"a snapshot that is none", v2dirSpec{ents: entries(t, []uint64{selfID}, nil, nil), mark: at(3), snap: "{}", ci: 3}, v2store.ErrNotStore, ""},
		{"a key among Keelson's", v2dirSpec{ents: entries(t, []uint64{selfID}, set("/_v2/keys/a", "1"))}, ErrInWay, "--v2-prefix"},
		{"a method of nobody's", v2dirSpec{ents: entries(t, []uint64{selfID}, v2store.Request{Method: "PATCH", Path: "/1/a"})}, v2store.ErrUnknownMethod, "entry 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.spec.make(t)
			before := v3(t, dir)
			_, err := fromV2(dir).Run()
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || v3(t, dir) != before {
				t.Errorf("%v\n%s", err, v3(t, dir))
			}
		})
	}
	// What only the cluster itself did may be uncommitted.
	dir := v2dirSpec{ents: entries(t, three, set("/a", "1"), v2store.Request{Method: v2store.MethodSync, Time: 1}), commit: 4}.make(t)
	if done := run(t, fromV2(dir)); done.Keys != 1 || done.Index != 4 {
		t.Errorf("%+v", done)
	}
	if _, err := fromV2(t.TempDir()).Run(); err == nil || !strings.Contains(err.Error(), "holds no member") {
		t.Errorf("an empty directory: %v", err)
	}
}

// A member that runs holds the log and the state file: either is enough.
func TestFromV2OfRunning(t *testing.T) {
	dir := v2dirSpec{ents: entries(t, []uint64{selfID}, set("/a", "1"))}.make(t)
	_, w, err := wal.Open(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fromV2(dir).Run(); !errors.Is(err, wal.ErrLocked) || !strings.Contains(err.Error(), "in use by a running member: stop it first") {
		t.Errorf("with its log open: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(vfs.OS, statePath(dir), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fromV2(dir).Run(); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "in use by a running member: stop it first") {
		t.Errorf("with its state file open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if done := run(t, fromV2(dir)); done.Keys != 1 {
		t.Errorf("afterwards: %+v", done)
	}
}

// transformerEnv makes the test's own program a transformer of that kind.
const transformerEnv = "KEELSON_TEST_TRANSFORMER"

func TestMain(m *testing.M) {
	if kind := os.Getenv(transformerEnv); kind != "" {
		os.Exit(transformer(kind))
	}
	os.Exit(m.Run())
}

func transformer(kind string) int {
	in := json.NewDecoder(os.Stdin)
	for {
		var n nodeJSON
		if err := in.Decode(&n); err != nil {
			return 0
		}
		kv := wire.KeyValue{Key: []byte("/t" + n.Key), Create: 3, Mod: int64(n.ModifiedIndex) + 100}
		switch {
		case kind == "fails" && n.Key == "/b":
			return 3
		case kind == "babbles":
			os.Stdout.WriteString("not a key, and not short either")
		case n.Dir:
			kv.Value, kv.Mod = []byte("dir"), kv.Mod+50
		default:
			kv.Value = fmt.Appendf(nil, "%s ttl %d", *n.Value, n.TTL)
			if n.TTL > 0 {
				kv.Key = []byte(n.Key)
			}
		}
		b := wire.AppendKeyValue(nil, kv)
		os.Stdout.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...))
	}
}

func TestFromV2Transformer(t *testing.T) {
	dir := v2dirSpec{ents: entries(t, []uint64{selfID}, set("/a", "1"), expiring("/b", "2", 50), set("/d/c", "3"))}.make(t)
	m := fromV2(dir)
	m.Transformer = os.Args[0]
	before := v3(t, dir)
	for kind, text := range map[string]string{"fails": "exit status 3; nothing was written", "babbles": "each key is preceded by its length"} {
		t.Setenv(transformerEnv, kind)
		if _, err := m.Run(); err == nil || !strings.Contains(err.Error(), text) || v3(t, dir) != before {
			t.Errorf("%s: %v\n%s", kind, err, v3(t, dir))
		}
	}
	t.Setenv(transformerEnv, "works")
	run(t, m)
	const want = `/t/a=1 ttl 0 3,102 v1
/b=2 ttl 50 3,103 v1 lease 7632000000000003
/t/d/c=3 ttl 0 3,104 v1
/t/=dir 3,152 v1
/t/d=dir 3,154 v1
lease 7632000000000003 for 50
at 154`
	if got := v3(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	m.Transformer = filepath.Join(dir, "none")
	if _, err := m.Run(); err == nil || !strings.Contains(err.Error(), "--transformer") {
		t.Errorf("a program that is not there: %v", err)
	}
}

// Keys that a transformer makes twice, and revisions that are no history, are put in order.
func TestInOrder(t *testing.T) {
	k := func(key string, mod int64) wire.KeyValue { return wire.KeyValue{Key: []byte(key), Mod: mod, Create: 1} }
	got := lastOfEach([]wire.KeyValue{k("a", 2), k("b", 2), k("a", 3), k("c", 4)})
	if len(got) != 3 || string(got[0].Key) != "b" || got[1].Mod != 3 || asGiven(got) != nil {
		t.Errorf("%v", got)
	}
	for _, bad := range [][]wire.KeyValue{{k("a", 1)}, {k("a", 2), k("b", 2)}, {{Mod: 3, Create: 4}}, {{Mod: 3}}} {
		if asGiven(bad) == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	inTurn(got, 40)
	if got[0].Mod != 41 || got[2].Mod != 43 || got[2].Create != 43 {
		t.Errorf("%v", got)
	}
}

// FuzzReadKeys: whatever a program writes is read or refused, and what is read is a key.
func FuzzReadKeys(f *testing.F) {
	one := wire.AppendKeyValue(nil, wire.KeyValue{Key: []byte("a"), Value: []byte("b"), Mod: 3})
	f.Add(append(binary.LittleEndian.AppendUint64(nil, uint64(len(one))), one...))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255})
	f.Add([]byte{0, 0, 0, 32, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		kvs, err := readKeys(bytes.NewReader(b))
		for _, kv := range kvs {
			if len(kv.Key) == 0 || kv.Version < 1 {
				t.Errorf("%+v, %v", kv, err)
			}
		}
	})
}
