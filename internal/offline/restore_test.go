package offline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/kit/vfs"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// fresh makes a state file that holds a few revisions, as a member leaves it, and gives its path.
func fresh(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	s, err := store.Open(vfs.OS, path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &store.Batch{Index: 17, Term: 2, Rev: 5}
	for i, kv := range []string{"\n\x01a\x10\x02\x18\x02 \x01*\x01v", "\n\x01b\x10\x03\x18\x03 \x01*\x01w", "\n\x01a\x10\x02\x18\x04 \x02*\x01x"} {
		b.Put(schema.Key, schema.RevisionKey(schema.Revision{Main: int64(i + 2)}, false), []byte(kv))
	}
	b.Put(schema.Key, schema.RevisionKey(schema.Revision{Main: 5}, true), []byte("\n\x01b"))
	b.Put(schema.Members, schema.MemberKey(7), schema.EncodeMember(schema.Member{ID: 7, PeerURLs: []string{"http://old:1"}, Name: "old"}))
	b.Put(schema.MembersRemoved, schema.MemberKey(8), schema.Removed)
	b.Put(schema.Meta, schema.StorageVersionKey, []byte("3.7.0"))
	b.Put(schema.Lease, schema.LeaseKey(9), []byte("a lease"))
	s.Append(b)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// snapshotOf puts a checksum behind a copy of a state file.
func snapshotOf(t *testing.T, db string) string {
	t.Helper()
	b, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return write(t, append(b, sum[:]...))
}

func write(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const three = "m1=http://127.0.0.1:1,m2=http://127.0.0.1:2,m3=http://127.0.0.1:3"

func restoreOf(t *testing.T, path string) Restore {
	return Restore{
		Snapshot: path, Name: "m2", Cluster: three, Token: "tok", PeerURLs: []string{"http://127.0.0.1:2"},
		DataDir: filepath.Join(t.TempDir(), "data", "m2.etcd"), segmentBytes: 64 << 10,
	}
}

func TestRestore(t *testing.T) {
	path := snapshotOf(t, fresh(t))
	before, err := HashFile(context.Background(), path, 0, 0, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	r := restoreOf(t, path)
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	if after, err := HashFile(context.Background(), statePath(r.DataDir), 0, 0, zap.NewNop()); err != nil || after != before {
		t.Errorf("hash %+v, of the snapshot %+v, %v", after, before, err)
	}
	checkMembership(t, r.DataDir, filepath.Join(r.DataDir, "member", "wal"))
	if list, err := os.ReadDir(r.DataDir); err != nil || len(list) != 1 {
		t.Errorf("in the data directory: %v, %v", list, err)
	}
	err = r.Run()
	if err == nil || !strings.Contains(err.Error(), "not empty or could not be read") {
		t.Errorf("the second time: %v", err)
	}
}

// checkMembership checks that state, log and .snap of a restored directory name the same three members at the same entry.
func checkMembership(t *testing.T, dataDir, walDir string) {
	t.Helper()
	src, err := store.OpenReadOnly(statePath(dataDir), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var ids []uint64
	for _, b := range []schema.Bucket{schema.Members, schema.MembersRemoved} {
		err := src.ForEach(b, func(k, v []byte) error {
			m, err := schema.ParseMember(v)
			ids = append(ids, m.ID)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	index, _ := src.Get(schema.Meta, schema.ConsistentIndexKey)
	term, _ := src.Get(schema.Meta, schema.TermKey)
	conf, err := src.Get(schema.Meta, schema.ConfStateKey)
	if err != nil || len(ids) != 3 || index[7] != 3 || term[7] != 1 {
		t.Fatalf("members %x, index %x, term %x, %v", ids, index, term, err)
	}
	if lease, err := src.Get(schema.Lease, schema.LeaseKey(9)); err != nil || string(lease) != "a lease" {
		t.Errorf("lease %q, %v", lease, err)
	}
	cs, err := schema.ParseConfState(conf)
	if err != nil {
		t.Fatal(err)
	}
	c, w, err := wal.Open(vfs.OS, walDir, wal.Options{Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := snap.Load(vfs.OS, filepath.Join(dataDir, "member", "snap"), func(index, term uint64) bool { return index == c.Mark.Index && term == c.Mark.Term })
	if err != nil {
		t.Fatal(err)
	}
	v2, err := snap.DecodeV2(s.Data)
	if err != nil || len(v2.Members) != 3 {
		t.Fatalf("%+v, %v", v2, err)
	}
	if c.Mark.Index != 3 || c.State.GetCommit() != 3 || c.State.GetVote() != v2.Members[0].ID {
		t.Errorf("mark %+v, state %v", c.Mark, c.State)
	}
	for i, m := range v2.Members {
		if cs.Voters[i] != m.ID || c.Mark.ConfState.Voters[i] != m.ID || s.ConfState.Voters[i] != m.ID {
			t.Errorf("member %x: %v, %v, %v", m.ID, cs, c.Mark.ConfState, s.ConfState)
		}
	}
	if m2, err := types.NewURLs([]string{"http://127.0.0.1:2"}); err != nil || c.Metadata.NodeID != cluster.MemberID(m2.StringSlice(), "tok") || c.Metadata.ClusterID != cluster.ID(ids) {
		t.Errorf("the log is that of member %x in cluster %x, %v", c.Metadata.NodeID, c.Metadata.ClusterID, err)
	}
}

func TestRestoreBesides(t *testing.T) {
	r := restoreOf(t, fresh(t)) // without a checksum
	if err := r.Run(); !errors.Is(err, ErrNoHash) {
		t.Fatalf("a copied file: %v", err)
	}
	r.SkipHashCheck, r.BumpRevision = true, 1000
	if err := os.MkdirAll(r.DataDir, 0o700); err != nil { // an empty one is taken
		t.Fatal(err)
	}
	r.WALDir = filepath.Join(t.TempDir(), "logs", "m2")
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	checkMembership(t, r.DataDir, r.WALDir)
	h, err := HashFile(context.Background(), statePath(r.DataDir), 0, 0, zap.NewNop())
	if err != nil || h.HashRevision != 1005 || h.CompactRevision != 1005 {
		t.Errorf("%+v, %v", h, err)
	}
	if _, err := HashFile(context.Background(), statePath(r.DataDir), 5, 0, zap.NewNop()); !errors.Is(err, ErrCompacted) {
		t.Errorf("an old revision: %v", err)
	}
	if _, err := HashFile(context.Background(), statePath(r.DataDir), 1006, 0, zap.NewNop()); !errors.Is(err, ErrFutureRev) {
		t.Errorf("a later revision: %v", err)
	}
}

// Refusals, each before anything is written.
func TestRestoreRefused(t *testing.T) {
	path := snapshotOf(t, fresh(t))
	for name, c := range map[string]struct {
		change func(r *Restore)
		want   string
	}{
		"unknown name":      {func(r *Restore) { r.Name = "m9" }, `couldn't find local name "m9"`},
		"other peer URL":    {func(r *Restore) { r.PeerURLs = []string{"http://127.0.0.1:9"} }, "has m2=http://127.0.0.1:2"},
		"no peer URL":       {func(r *Restore) { r.PeerURLs = nil }, "--initial-advertise-peer-urls"},
		"bad cluster":       {func(r *Restore) { r.Cluster = "m2" }, "NAME=URL"},
		"no cluster":        {func(r *Restore) { r.Cluster = "" }, "--initial-cluster is empty"},
		"one URL for two":   {func(r *Restore) { r.Cluster = "m2=http://127.0.0.1:2,m1=http://127.0.0.1:2" }, "duplicate url"},
		"no snapshot":       {func(r *Restore) { r.Snapshot = "/nonexistent" }, "no such file"},
		"a directory":       {func(r *Restore) { r.Snapshot = "/" }, "is no file"},
		"log is there":      {func(r *Restore) { r.WALDir = filepath.Dir(path) }, "exists"},
		"greatest revision": {func(r *Restore) { r.BumpRevision = 1 << 63 }, "none is greater"},
	} {
		t.Run(name, func(t *testing.T) {
			r := restoreOf(t, path)
			c.change(&r)
			if err := r.Run(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(filepath.Dir(r.DataDir)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was written: %v", err)
			}
		})
	}
}

// A disk that fails, early or late, leaves nothing: never half a directory.
func TestRestoreOnFailingDisk(t *testing.T) {
	path := snapshotOf(t, fresh(t))
	run := func(steps int64) (int64, error) {
		var ran atomic.Int64
		r := restoreOf(t, path)
		root := filepath.Dir(filepath.Dir(r.DataDir))
		r.WALDir = filepath.Join(root, "logs", "m2")
		r.FS = vfs.Inject(vfs.OS, func(op vfs.Op) error {
			// The log prepares its next segment beside all else, and goes on without one.
			if prepared, _ := filepath.Match("[0-9]*.tmp", filepath.Base(op.Path)); !prepared && ran.Add(1) > steps {
				return errors.New("disk on fire")
			}
			return nil
		}, nil)
		err := r.Run()
		if left, lerr := os.ReadDir(root); err != nil && (lerr != nil || len(left) > 0) {
			t.Errorf("failed after operation %d (%v), left %v, %v", steps, err, left, lerr)
		}
		return ran.Load(), err
	}
	all, err := run(1 << 30)
	if err != nil || all < 20 {
		t.Fatalf("%d operations, %v", all, err)
	}
	for _, steps := range []int64{0, 3, all / 4, all / 2, all - 4, all - 3, all - 2, all - 1} {
		if _, err := run(steps); err == nil {
			t.Errorf("no error although operation %d failed", steps+1)
		}
	}
}

// What is left by a restore that was killed is not mistaken for anything else.
func TestRestoreAfterKill(t *testing.T) {
	r := restoreOf(t, snapshotOf(t, fresh(t)))
	if err := os.MkdirAll(filepath.Join(r.DataDir, "member.part"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Run(); err == nil || !strings.Contains(err.Error(), "remove it and try again") {
		t.Errorf("%v", err)
	}
}

// Damaged files are refused, by name, and never with a panic.
func TestDamagedFiles(t *testing.T) {
	db := fresh(t)
	good, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := SnapshotStatus(context.Background(), db)
	if err != nil {
		t.Fatal(err)
	}
	good = good[:whole.TotalSize] // the file is longer than what is used
	sum := sha256.Sum256(good)
	flipped := append(bytes.Clone(good), sum[:]...)
	flipped[len(good)/2] ^= 1
	for name, b := range map[string][]byte{
		"empty": {}, "short": good[:100], "one page": good[:4096], "cut": good[:len(good)-4096], "cut in a page": good[:len(good)-100],
		"no database": bytes.Repeat([]byte("no database "), 4096), "flipped": flipped, "checksum alone": sum[:], "zeros": make([]byte, 64<<10),
	} {
		path := write(t, b)
		if _, err := SnapshotStatus(context.Background(), path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: status: %v", name, err)
		}
		if _, err := HashFile(context.Background(), path, 0, 0, zap.NewNop()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: hash: %v", name, err)
		}
		r := restoreOf(t, path)
		r.SkipHashCheck = name != "flipped"
		if err := r.Run(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: restore: %v", name, err)
		}
		if _, err := os.Stat(filepath.Dir(r.DataDir)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was written: %v", name, err)
		}
	}
}

// A file that a member has open is refused.
func TestFileInUse(t *testing.T) {
	db := fresh(t)
	s, err := store.Open(vfs.OS, db, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := restoreOf(t, db)
	r.SkipHashCheck = true
	if err := r.Run(); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), db) {
		t.Errorf("%v", err)
	}
}

func TestSnapshotStatus(t *testing.T) {
	db := fresh(t)
	path := snapshotOf(t, db)
	s, err := SnapshotStatus(context.Background(), path)
	if err != nil || s.Revision != 5 || s.TotalKey != 1 || s.Version != "3.7.0" {
		t.Fatalf("%+v, %v", s, err)
	}
	if of, err := SnapshotStatus(context.Background(), db); err != nil || of != s {
		t.Errorf("%+v of the file without a checksum, %v", of, err)
	}
}
