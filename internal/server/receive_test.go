package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/snap"
)

// TestWrongSnapshotRefused sends a member a state file that does not hold what its snapshot says: it is refused before
// raft, and with it the log, has heard of it, and does not stay.
func TestWrongSnapshotRefused(t *testing.T) {
	dir := t.TempDir()
	m := start(t, testConfig(t, dir))
	put(t, m, "k", "v")
	stop(t, m)
	holds := m.machine.applied()
	m = start(t, testConfig(t, dir))
	defer stop(t, m)
	r := &receiver{loop: m.loop, fs: vfs.OS, snapDir: m.data.snap, clock: clock.System}
	for what, from := range map[string]string{"another index": m.data.db, "no state file": filepath.Join(dir, "member", "snap", "x")} {
		if err := os.WriteFile(filepath.Join(dir, "member", "snap", "x"), []byte("no state file"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		index := holds + 1000
		msg := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index}}}
		if err := r.ReceiveSnapshot(t.Context(), msg, f); err == nil || !strings.Contains(err.Error(), "snapshot at index") {
			t.Errorf("%s: %v", what, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if snap.HasDB(vfs.OS, m.data.snap, index) {
			t.Errorf("%s: the file stays", what)
		}
	}
	if err := checkReceived(vfs.OS, m.data.snap, 1); err == nil {
		t.Error("a file that is not there is taken")
	}
}

// TestStopOnHungDisk checks that a member whose disk hangs does not keep its process for ever.
func TestStopOnHungDisk(t *testing.T) {
	var mu sync.Mutex
	hung := false
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fs := vfs.Inject(vfs.OS, func(op vfs.Op) error {
		mu.Lock()
		on := hung
		mu.Unlock()
		if on && op.Kind == vfs.KindDatasync {
			once.Do(func() { close(held) })
			<-release
		}
		return nil
	}, nil)
	dir := t.TempDir()
	m := startOn(t, fs, testConfig(t, dir))
	mu.Lock()
	hung = true
	mu.Unlock()
	go func() { _, _ = m.Put(t.Context(), &pb.PutRequest{Key: []byte("k")}) }()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Stop(ctx); !errors.Is(err, ErrDiskHangs) {
		t.Errorf("stopped with %v", err)
	}
	close(release)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; { // what was left behind closes the files once the disk works
		again, err := New(testConfig(t, dir), smallDeps(vfs.OS, testLogger(t)))
		if err == nil {
			stop(t, again)
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal(err)
		}
	}
}
