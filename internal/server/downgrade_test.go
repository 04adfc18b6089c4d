package server

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// eventually waits until done says so, looking at versions every time.
func eventually(t *testing.T, m *Member, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !done(); {
		m.workers.versions.nudge()
		select {
		case <-tick.C:
		case <-end:
			c, s := m.Versions()
			t.Fatalf("waited in vain for %s: cluster %s, storage %s", what, c, s)
		}
	}
}

func at(m *Member, clusterVersion, storage string) func() bool {
	return func() bool {
		c, s := m.Versions()
		return c == clusterVersion && s == storage
	}
}

// TestDowngrade takes a member through a downgrade and back: what is refused in each state, and that the file says the
// older version only once the log is recorded behind the fall.
func TestDowngrade(t *testing.T) {
	dir := t.TempDir()
	m := start(t, testConfig(t, dir))
	eventually(t, m, "the first versions", at(m, "3.7.0", "3.7.0"))
	ask := func(a pb.DowngradeRequest_DowngradeAction, v string, want error) {
		t.Helper()
		r, err := m.Downgrade(t.Context(), &pb.DowngradeRequest{Action: a, Version: v})
		if !errors.Is(err, want) || err == nil && (r.Header.MemberId != m.ID() || r.Header.Revision == 0) {
			t.Errorf("%s %q: %v, %v; want %v", a, v, r, err, want)
		}
	}
	const validate, enable, cancel = pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_ENABLE, pb.DowngradeRequest_CANCEL
	ask(validate, "3.6", nil)
	ask(validate, "3.6.4", nil)
	ask(validate, "3.5.0", ErrInvalidDowngradeTarget)
	ask(enable, "3.7", ErrInvalidDowngradeTarget)
	ask(enable, "x", ErrDowngradeVersionFormat)
	ask(cancel, "", nil) // nothing to call off: no error, as in etcd
	ask(9, "3.6", ErrUnknownMethod)
	ask(enable, "3.6", nil)
	if on, err := m.DowngradeEnabled(t.Context()); err != nil || !on {
		t.Errorf("not enabled: %v", err)
	}
	eventually(t, m, "the fall", at(m, "3.6.0", "3.6.0"))
	ask(validate, "3.5", ErrDowngradeInProcess)
	put(t, m, "below", "x")
	m.Kill()

	c, w, err := wal.Open(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Entries {
		if strings.Contains(string(e.Data), "3.7.0") {
			t.Errorf("entry %d is behind the newest record and names the newer version", e.GetIndex())
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	m = start(t, testConfig(t, dir))
	if !at(m, "3.6.0", "3.6.0")() || get(t, m, "below", 0) != "x" {
		t.Error("the restart changed the versions")
	}
	m.Downgrades.finish(t.Context())
	if on, err := m.DowngradeEnabled(t.Context()); err != nil || !on {
		t.Errorf("ended with this member still at 3.7: %v", err)
	}
	ask(cancel, "", nil)
	eventually(t, m, "the rise", at(m, "3.7.0", "3.7.0"))
	stop(t, m)
}

// TestDowngradeEnds checks that the leader ends a downgrade whose target every member runs.
func TestDowngradeEnds(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir(), "--downgrade-check-time=10ms"))
	defer stop(t, m)
	if err := m.Downgrades.note(t.Context(), &membershippb.DowngradeInfoSetRequest{Enabled: true, Ver: "3.7.0"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, m, "the end", func() bool {
		on, err := m.DowngradeEnabled(t.Context())
		return err == nil && !on
	})
}

// TestStorageWaitsForTheLog checks that the layout's version does not fall below what the log holds.
func TestStorageWaitsForTheLog(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir()))
	defer stop(t, m)
	eventually(t, m, "the first versions", at(m, "3.7.0", "3.7.0"))
	v := m.workers.versions
	if ok, err := v.readable(semver.New("3.6.0")); !ok || err != nil {
		t.Errorf("nothing keeps it at 3.7: %v, %v", ok, err)
	}
	if _, err := v.proposer.propose(t.Context(), &pb.InternalRaftRequest{DowngradeVersionTest: &pb.DowngradeVersionTestRequest{Ver: "3.7.0"}}); err != nil {
		t.Fatal(err)
	}
	if ok, err := v.readable(semver.New("3.6.0")); ok || err == nil || !strings.Contains(err.Error(), "WAL contains newer entries") {
		t.Errorf("an entry of 3.7 does not keep it: %v, %v", ok, err)
	}
	v.records.owed.Store(1 << 40)
	if ok, err := v.readable(semver.New("3.6.0")); ok || err != nil {
		t.Errorf("a record that is owed does not keep it: %v, %v", ok, err)
	}
	v.records.owed.Store(0)
}

// TestNewerDirectory checks that a directory of a newer cluster, or with a newer layout, is refused by name.
func TestNewerDirectory(t *testing.T) {
	for _, c := range []struct {
		bucket schema.Bucket
		key    []byte
		want   string
	}{
		{schema.Cluster, schema.ClusterVersionKey, "lower than determined cluster version"},
		{schema.Meta, schema.StorageVersionKey, "layout is of version 3.8.0"},
	} {
		dir := t.TempDir()
		m := start(t, testConfig(t, dir))
		stop(t, m)
		db, err := store.Open(vfs.OS, m.data.db, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.PutLocal(store.Op{Bucket: c.bucket, Key: c.key, Value: []byte("3.8.0")}), db.Close()); err != nil {
			t.Fatal(err)
		}
		_, err = New(testConfig(t, dir), Deps{
			FS: vfs.OS, Clock: clock.System, Logger: testLogger(t), Caller: alone{}, Network: func(NetworkParams) Network { return alone{} },
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.key, err)
		}
	}
}

// elsewhere answers for other members.
type elsewhere struct {
	alone
	cluster string
	down    bool
}

func (e elsewhere) Version(context.Context, []string) (string, string, error) {
	if e.cluster == "" {
		return e.alone.Version(context.Background(), nil)
	}
	return "3.7.3", e.cluster, nil
}

func (e elsewhere) DowngradeEnabled(context.Context, []string) (bool, error) { return e.down, nil }

func TestJoiningVersions(t *testing.T) {
	for _, c := range []struct {
		elsewhere
		fits bool
	}{
		{elsewhere{cluster: "3.7.0"}, true},
		{elsewhere{cluster: "3.5.0"}, true},
		{elsewhere{cluster: "3.8.0"}, false},
		{elsewhere{cluster: "3.7.0", down: true}, false}, // a 3.6 may join, this may not
		{elsewhere{cluster: "3.8.0", down: true}, true},
		{elsewhere{cluster: "not_decided"}, false},
		{elsewhere{}, false},
	} {
		err := refuseIncompatible(c.elsewhere, []schema.Member{{ID: 1}}, testLogger(t))
		if (err == nil) != c.fits || err != nil && !strings.Contains(err.Error(), "incompatible with current running cluster") {
			t.Errorf("%+v: %v", c.elsewhere, err)
		}
	}
}
