package offline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// restored gives a data directory whose state file has the layout of 3.7.
func restored(t *testing.T) string {
	t.Helper()
	r := restoreOf(t, snapshotOf(t, fresh(t)))
	if err := r.Run(); err != nil {
		t.Fatal(err)
	}
	return r.DataDir
}

func versionIn(t *testing.T, dir string) string {
	t.Helper()
	f, err := store.OpenReadOnly(statePath(dir), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := f.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(v)
}

func migrate(t *testing.T, dir, target string, force bool) error {
	t.Helper()
	v, err := ParseTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	return Migrate{DataDir: dir, Target: v, Force: force, Logger: zap.NewNop()}.Run()
}

func TestMigrate(t *testing.T) {
	dir := restored(t)
	for _, c := range []struct {
		target string
		force  bool
		want   string // the version in the file
		err    string
	}{
		{"3.7", false, "3.7.0", ""},
		{"3.6", false, "3.6.0", ""},
		{"3.5", false, "", ""},
		{"3.5", false, "", ""},
		{"3.7", false, "3.7.0", ""},
		{"3.5", false, "", ""},
		{"3.6", false, "3.6.0", ""},
		{"3.8", false, "3.6.0", `version "3.8.0" is not supported`},
		{"4.0", false, "3.6.0", "changing major storage version"},
		{"3.8", true, "3.8.0", ""},
		{"3.7", false, "3.7.0", ""},
	} {
		err := migrate(t, dir, c.target, c.force)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("to %s: %v", c.target, err)
		}
		if got := versionIn(t, dir); got != c.want {
			t.Errorf("after %s the file says %q, not %q", c.target, got, c.want)
		}
	}
}

// What the older version could not read keeps the file from moving down to it.
func TestMigrateWithNewerLog(t *testing.T) {
	dir := restored(t)
	_, w, err := wal.Open(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(&pb.InternalRaftRequest{DowngradeVersionTest: &pb.DowngradeVersionTestRequest{Ver: "3.7.0"}})
	if err != nil {
		t.Fatal(err)
	}
	e := &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Term: new(uint64(2)), Index: new(uint64(4)), Data: data}
	state := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(uint64(4))}
	if err := errors.Join(w.Append(wal.Batch{Entries: []*raftpb.Entry{e}, State: state}), w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
	err = migrate(t, dir, "3.6", false)
	if err == nil || !strings.Contains(err.Error(), "cannot downgrade storage, WAL contains newer entries, as the target version (3.6.0) is lower than the version (3.7.0)") {
		t.Errorf("%v", err)
	}
	if got := versionIn(t, dir); got != "3.7.0" {
		t.Errorf("a refused migration wrote %q", got)
	}
	if err := migrate(t, dir, "3.6", true); err != nil || versionIn(t, dir) != "3.6.0" {
		t.Errorf("by force: %v, %q", err, versionIn(t, dir))
	}
}

func TestMigrateRefused(t *testing.T) {
	for target, want := range map[string]string{
		"3.4": `target version "3.4" not supported. Minimal "3.5"`, "3": `expected "X.Y", got "3"`, "": `got ""`, "x.y": "failed to parse target version",
	} {
		if _, err := ParseTarget(target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", target, err)
		}
	}
	if err := migrate(t, t.TempDir(), "3.6", false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	dir := restored(t)
	old := filepath.Join(dir, "member", "wal")
	if err := os.Rename(old, old+".away"); err != nil {
		t.Fatal(err)
	}
	if err := migrate(t, dir, "3.6", true); err == nil || !strings.Contains(err.Error(), "member/wal") || versionIn(t, dir) != "3.7.0" {
		t.Errorf("no log: %v", err)
	}
	s, err := store.Open(vfs.OS, statePath(dir), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, _ := ParseTarget("3.6")
	err = Migrate{DataDir: dir, Target: v, Wait: patience, Logger: zap.NewNop()}.Run()
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), dir+" is in use by a running member") {
		t.Errorf("in use: %v", err)
	}
}

// A directory of 3.4 cannot be told from an unfinished one of 3.5.
func TestMigrateWithoutTerm(t *testing.T) {
	dir := restored(t)
	err := store.EditFile(statePath(dir), 0, 0, func(e *store.Edit) error {
		return errors.Join(e.Delete(schema.Meta, schema.TermKey), e.Delete(schema.Meta, schema.StorageVersionKey))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(t, dir, "3.6", false); err == nil || !strings.Contains(err.Error(), "missing term information") {
		t.Errorf("%v", err)
	}
}

// Whatever bytes there are, reading them ends, with an answer or an error.
func FuzzReadFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "db")
	s, err := store.Open(vfs.OS, path, store.Options{})
	if err != nil {
		f.Fatal(err)
	}
	b := &store.Batch{Index: 3, Term: 1, Rev: 2}
	b.Put(schema.Key, schema.RevisionKey(schema.Revision{Main: 2}, false), []byte("\n\x01a\x10\x02\x18\x02 \x01*\x01v"))
	s.Append(b)
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), byte(0), uint32(0), byte(0), uint32(len(good)))
	f.Add(uint32(4096*3+20), byte(1), uint32(16+24), byte(0xff), uint32(len(good)-4096))
	f.Fuzz(func(t *testing.T, at1 uint32, v1 byte, at2 uint32, v2 byte, size uint32) {
		b := append([]byte(nil), good...)
		b[int(at1)%len(b)] ^= v1
		b[int(at2)%len(b)] ^= v2
		path := write(t, b[:int(size)%(len(b)+1)])
		if _, err := SnapshotStatus(context.Background(), path); err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("an error that does not name the file: %v", err)
		}
		if _, err := HashFile(context.Background(), path, 0, 0, zap.NewNop()); err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("an error that does not name the file: %v", err)
		}
	})
}
