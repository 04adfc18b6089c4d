package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"

	"keelson/internal/apply"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/kit/wire"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

const otherVoter, otherLearner = 0x11, 0x22

// tail appends entries to the log of a stopped member: data is a put, a conf change, or nothing. The last uncommitted of
// them are not committed.
func tail(t *testing.T, dir string, uncommitted int, data ...proto.Message) {
	t.Helper()
	c, w, err := wal.Open(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Options{SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	last := c.Mark.Index + uint64(len(c.Entries))
	b := wal.Batch{State: &raftpb.HardState{Term: c.State.Term, Vote: c.State.Vote, Commit: new(last + uint64(len(data)-uncommitted))}}
	for i, m := range data {
		e := &raftpb.Entry{Term: c.State.Term, Index: new(last + uint64(i) + 1), Type: raftpb.EntryNormal.Enum()}
		switch m := m.(type) {
		case *raftpb.ConfChange:
			e.Type = raftpb.EntryConfChange.Enum()
			e.Data, err = proto.Marshal(m)
		case *pb.InternalRaftRequest:
			e.Data, err = wire.AppendInternalRequest(nil, m)
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Entries = append(b.Entries, e)
	}
	if err := errors.Join(w.Append(b), w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
}

func adds(id uint64, kind raftpb.ConfChangeType) *raftpb.ConfChange {
	m := cluster.Context{Member: schema.Member{ID: id, PeerURLs: []string{fmt.Sprintf("http://127.0.0.1:%d", id)}}}
	m.IsLearner = kind == raftpb.ConfChangeAddLearnerNode
	b, _ := json.Marshal(m)
	return &raftpb.ConfChange{Type: kind.Enum(), NodeId: &id, Context: b}
}

func puts(key string) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 1}, Put: &pb.PutRequest{Key: []byte(key), Value: []byte("v")}}
}

// smallDeps are for a single member with small segments, which are quick to make and to copy.
func smallDeps(fs vfs.FS, logger *zap.Logger) Deps {
	return Deps{
		FS: fs, Clock: clock.System, Logger: logger, Caller: alone{}, SegmentBytes: 64 << 10,
		Network: func(NetworkParams) Network { return alone{} },
	}
}

// cold makes a directory of a member that was one of three: its log is ahead of its store, and ends with an entry that
// was never committed.
func cold(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	m, err := New(testConfig(t, dir), smallDeps(vfs.OS, zap.NewNop()))
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	for i := range 20 {
		put(t, m, fmt.Sprint(i), "v")
	}
	stop(t, m)
	tail(t, dir, 1, adds(otherVoter, raftpb.ConfChangeAddNode), adds(otherLearner, raftpb.ConfChangeAddLearnerNode), puts("late"), puts("lost"))
	return dir
}

// forced starts a directory with the flag and gives the member and what it warned of.
func forced(t *testing.T, dir string) (*Member, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.WarnLevel)
	m, err := New(testConfig(t, dir, "--force-new-cluster"), smallDeps(vfs.OS, zap.New(core)))
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	select {
	case <-m.Ready():
	case <-m.Failed():
		t.Fatal(m.Err())
	}
	return m, logs
}

// isAlone checks that a member is its cluster's only one, by every file that says so.
func isAlone(t *testing.T, dir string, removed ...uint64) {
	t.Helper()
	c, w, err := wal.Open(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Options{SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if v := c.Mark.ConfState; len(v.GetVoters()) != 1 || v.GetVoters()[0] != c.NodeID || len(v.GetLearners()) > 0 {
		t.Errorf("the log's record names %v", v)
	}
	s, err := snap.Load(vfs.OS, filepath.Join(dir, "member", "snap"), func(index, term uint64) bool { return index == c.Mark.Index && term == c.Mark.Term })
	if err != nil {
		t.Fatal(err)
	}
	v2, err := snap.DecodeV2(s.Data)
	if err != nil || len(v2.Members) != 1 || v2.Members[0].ID != c.NodeID || v2.Members[0].IsLearner || len(v2.Removed) != len(removed) {
		t.Errorf("the .snap file says %+v, %v", v2, err)
	}
	db, err := store.Open(vfs.OS, filepath.Join(dir, "member", "snap", "db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	st, err := apply.LoadCluster(db)
	if err != nil || len(st.Members) != 1 || st.Members[0].ID != c.NodeID || len(st.Conf.Voters) != 1 || len(st.Conf.Learners) > 0 {
		t.Errorf("the store says %+v, %v", st, err)
	}
	for _, id := range removed {
		if !st.Removed[id] || !slices.Contains(v2.Removed, id) {
			t.Errorf("%x is not removed: %v, %v", id, st.Removed, v2.Removed)
		}
	}
	if db.Committed().Index < c.Mark.Index {
		t.Errorf("the store stands at %d, the record at %d", db.Committed().Index, c.Mark.Index)
	}
}

func TestForceNewCluster(t *testing.T) {
	dir := cold(t)
	for round := range 2 {
		m, logs := forced(t, dir)
		if get(t, m, "19", 0) != "v" || get(t, m, "late", 0) != "v" || get(t, m, "lost", 0) != "" {
			t.Error("what was committed is not what is there")
		}
		if n := logs.FilterMessageSnippet("Remove the flag").Len(); n != 1 {
			t.Errorf("%d warnings", n)
		}
		put(t, m, fmt.Sprint("after", round), "v")
		if round == 0 {
			m.Kill()
		} else {
			stop(t, m)
		}
		isAlone(t, dir, otherVoter, otherLearner)
	}
	m := start(t, testConfig(t, dir))
	if get(t, m, "after0", 0) != "v" || get(t, m, "after1", 0) != "v" {
		t.Error("a restart without the flag lost something")
	}
	stop(t, m)
}

// What a member that is alone has acknowledged stays, though its last start ended before the log said that it is committed: where
// the flag was left in a unit file each crash would else cost some writes.
func TestForceNewKeepsWhatWasAcknowledged(t *testing.T) {
	dir := cold(t)
	m, _ := forced(t, dir)
	put(t, m, "acknowledged", "v")
	m.Kill()
	c, w, err := wal.Open(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Options{SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	before := &raftpb.HardState{Term: new(c.State.GetTerm()), Vote: new(c.State.GetVote()), Commit: new(c.Mark.Index)}
	if err := errors.Join(w.Append(wal.Batch{State: before}), w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
	m, _ = forced(t, dir)
	if get(t, m, "acknowledged", 0) != "v" || get(t, m, "lost", 0) != "" {
		t.Error("what was acknowledged is not what is there")
	}
	stop(t, m)
	isAlone(t, dir, otherVoter, otherLearner)
}

// TestForceNewInterrupted stops the forced start at every write to the disk, as a crash there would, and starts again.
func TestForceNewInterrupted(t *testing.T) {
	from := cold(t)
	for n := int64(1); ; n++ {
		dir := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		var count, stopped atomic.Int64
		crash := errors.New("crashed here")
		fs := vfs.Inject(vfs.OS, func(vfs.Op) error {
			if count.Add(1) >= n {
				stopped.Store(1)
				return crash
			}
			return nil
		}, func(vfs.Op) {})
		m, err := New(testConfig(t, dir, "--force-new-cluster"), smallDeps(fs, zap.NewNop()))
		if err == nil {
			m.Kill()
		}
		if stopped.Load() == 0 {
			if n < 8 {
				t.Errorf("only %d places to stop at", n)
			}
			return
		}
		if m, err = New(testConfig(t, dir, "--force-new-cluster"), smallDeps(vfs.OS, zap.NewNop())); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]int{"late": 1, "lost": 0} {
			if r, err := m.Range(t.Context(), &pb.RangeRequest{Key: []byte(key), Serializable: true}); err != nil || len(r.KVs) != want {
				t.Errorf("stopped at %d: %d of %s, %v", n, len(r.KVs), key, err)
			}
		}
		m.Kill()
		isAlone(t, dir, otherVoter, otherLearner)
	}
}

// edit changes the state file of a stopped member.
func edit(t *testing.T, dir string, ops ...store.Op) {
	t.Helper()
	db, err := store.Open(vfs.OS, filepath.Join(dir, "member", "snap", "db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.PutLocal(ops...), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestForceNewNotVoting forces members that do not vote, or that their cluster does not know: each becomes the voter.
func TestForceNewNotVoting(t *testing.T) {
	for name, learner := range map[string]bool{"a learner": true, "not a member": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := start(t, testConfig(t, dir))
			put(t, m, "k", "v")
			self := m.ID()
			me, _ := m.data.state.Cluster.State().Member(self)
			stop(t, m)
			other := schema.Member{ID: otherVoter, PeerURLs: []string{"http://127.0.0.1:17"}}
			conf := &raftpb.ConfState{Voters: []uint64{otherVoter}}
			me.IsLearner = true
			ops := []store.Op{
				{Bucket: schema.Members, Key: schema.MemberKey(otherVoter), Value: schema.EncodeMember(other)},
				{Bucket: schema.Members, Key: schema.MemberKey(self), Value: schema.EncodeMember(me), Delete: !learner},
			}
			if learner {
				conf.Learners = []uint64{self}
			} else {
				conf.Voters = append(conf.Voters, 0x99) // a member that raft alone knows
			}
			edit(t, dir, append(ops, store.Op{Bucket: schema.Meta, Key: schema.ConfStateKey, Value: schema.ConfStateJSON(conf)})...)
			m, _ = forced(t, dir)
			if get(t, m, "k", 0) != "v" || m.IsLearner() {
				t.Error("it does not serve what it had")
			}
			stop(t, m)
			isAlone(t, dir, otherVoter)
		})
	}
}

// TestForceNewRemoved checks that a member which was removed is refused, with the way out.
func TestForceNewRemoved(t *testing.T) {
	dir := cold(t)
	m, _ := forced(t, dir)
	self := m.ID()
	stop(t, m)
	edit(t, dir, store.Op{Bucket: schema.MembersRemoved, Key: schema.MemberKey(self), Value: schema.Removed})
	_, err := New(testConfig(t, dir, "--force-new-cluster"), smallDeps(vfs.OS, zap.NewNop()))
	if err == nil || !strings.Contains(err.Error(), "etcdutl snapshot restore") {
		t.Errorf("started, or refused without a word of what to do: %v", err)
	}
}

// TestForceNewLogLost starts a store whose log ends before it: refused without the flag, whole with it.
func TestForceNewLogLost(t *testing.T) {
	dir := t.TempDir()
	m := start(t, testConfig(t, dir))
	put(t, m, "first", "v")
	stop(t, m)
	logDir, kept := filepath.Join(dir, "member", "wal"), filepath.Join(t.TempDir(), "wal")
	if err := os.CopyFS(kept, os.DirFS(logDir)); err != nil {
		t.Fatal(err)
	}
	m = start(t, testConfig(t, dir))
	for i := range 30 {
		put(t, m, fmt.Sprint(i), "v")
	}
	stop(t, m)
	if err := errors.Join(os.RemoveAll(logDir), os.Rename(kept, logDir)); err != nil {
		t.Fatal(err)
	}
	_, err := New(testConfig(t, dir), smallDeps(vfs.OS, zap.NewNop()))
	if !errors.Is(err, ErrLogLost) {
		t.Fatalf("without the flag: %v", err)
	}
	m, _ = forced(t, dir)
	if get(t, m, "29", 0) != "v" || get(t, m, "first", 0) != "v" {
		t.Error("the store's keys are not all there")
	}
	put(t, m, "after", "v")
	m.Kill()
	isAlone(t, dir)
	m = start(t, testConfig(t, dir))
	if get(t, m, "after", 0) != "v" {
		t.Error("a put after it is lost")
	}
	stop(t, m)
}

// TestForcedChange compares the configurations with raft's own.
func TestForcedChange(t *testing.T) {
	st := apply.State{Cluster: cluster.New(cluster.State{Conf: &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4, 5}}})}
	f := &forcing{opened: &opened{state: st}}
	for _, id := range []uint64{0, 1, 3, 4, 5, 9} {
		for _, kind := range []raftpb.ConfChangeType{raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeRemoveNode, raftpb.ConfChangeUpdateNode} {
			chg := confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0), LastIndex: 10}
			var err error
			if chg.Tracker.Config, chg.Tracker.Progress, err = confchange.Restore(chg, st.Cluster.State().Conf); err != nil {
				t.Fatal(err)
			}
			if chg.Tracker.Config, chg.Tracker.Progress, err = chg.Simple(&raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: &id}); err != nil {
				t.Fatal(err)
			}
			got := f.change(&raftpb.ConfChange{Type: kind.Enum(), NodeId: &id})
			want := chg.Tracker.ConfState()
			if !slices.Equal(got.Voters, want.Voters) || !slices.Equal(got.Learners, want.Learners) {
				t.Errorf("%v of %d: %v, raft %v", kind, id, got, want)
			}
		}
	}
}
