package server

import (
	"errors"
	"os"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// mostlyEmpty makes a data directory whose state file is mostly free pages, and gives its configuration.
func mostlyEmpty(t *testing.T, more ...string) (cfg *config.Config, size int64) {
	t.Helper()
	cfg = testConfig(t, t.TempDir(), more...)
	m, err := New(cfg, testDeps(t))
	if err != nil {
		t.Fatal(err)
	}
	large := store.Op{Bucket: schema.Alarm, Key: []byte("large"), Value: make([]byte, 4<<20)}
	none := store.Op{Bucket: schema.Alarm, Key: []byte("large"), Delete: true}
	if err := errors.Join(m.data.store.PutLocal(large), m.data.store.PutLocal(none)); err != nil {
		t.Fatal(err)
	}
	size = m.data.store.Size()
	m.Kill()
	return cfg, size
}

func TestDefragment(t *testing.T) {
	cfg, size := mostlyEmpty(t)
	m, err := New(cfg, testDeps(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	resp, err := m.Defragment(t.Context(), &pb.DefragmentRequest{})
	if err != nil || !proto.Equal(resp, &pb.DefragmentResponse{}) { // etcd's has no header either
		t.Errorf("%v, %v", resp, err)
	}
	if m.data.store.Size() > size/4 || m.Defragmenting() {
		t.Errorf("%d bytes of %d", m.data.store.Size(), size)
	}
}

func TestDefragmentAtStart(t *testing.T) {
	for threshold, shrinks := range map[string]bool{"0": false, "1": true, "1000": false} {
		cfg, size := mostlyEmpty(t, "--bootstrap-defrag-threshold-megabytes", threshold)
		m, err := New(cfg, testDeps(t))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(m.data.db)
		if err != nil || (info.Size() < size/4) != shrinks {
			t.Errorf("threshold %s MB: %d bytes of %d, %v", threshold, info.Size(), size, err)
		}
		m.Kill()
	}
}

func testDeps(t testing.TB) Deps {
	return Deps{
		FS: vfs.OS, Clock: clock.System, Logger: testLogger(t), Caller: alone{},
		Network: func(NetworkParams) Network { return alone{} },
	}
}
