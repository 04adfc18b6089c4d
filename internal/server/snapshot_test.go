package server

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/wal"
)

// snapshotOrder watches a disk for the order in which a snapshot is recorded and the log shortened.
type snapshotOrder struct {
	mu      sync.Mutex
	m       *Member
	saved   uint64 // index of the newest .snap file with its name synced
	named   uint64 // index of the newest .snap file that has its name
	synced  uint64 // saved as of the log's last sync
	removed int
	wrong   []string
}

func (s *snapshotOrder) after(op vfs.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case op.Kind == vfs.KindSyncDir && filepath.Base(op.Path) == "snap":
		s.saved = s.named
	case op.Kind == vfs.KindDatasync && filepath.Base(filepath.Dir(op.Path)) == "wal": // a segment goes by its first name
		s.synced = s.saved
	case op.Kind == vfs.KindRename && strings.HasPrefix(filepath.Base(op.Path), "tmp-"): // its former name
		_, index, _ := strings.Cut(strings.TrimPrefix(filepath.Base(op.Path), "tmp-"), "-")
		s.named, _ = strconv.ParseUint(index, 16, 64)
		if have := s.m.data.store.Committed().Index; have < s.named {
			s.wrong = append(s.wrong, fmt.Sprintf("a .snap file of index %d while the store holds %d", s.named, have))
		}
	case op.Kind == vfs.KindRemove && filepath.Ext(op.Path) == ".wal":
		s.removed++
		if s.synced == 0 {
			s.wrong = append(s.wrong, op.Path+" removed before the log was synced behind a .snap file")
		}
	}
}

// TestSnapshotOrder checks that the store holds an index before its .snap file gets its name, and the log is synced behind
// that before a segment goes; and that what is left agrees: the log's newest record, the .snap file of that name, and the
// membership in it.
func TestSnapshotOrder(t *testing.T) {
	s := &snapshotOrder{}
	dir := t.TempDir()
	m, err := New(testConfig(t, dir, "--snapshot-count", "40", "--snapshot-catchup-entries", "10", "--max-wals", "1"), Deps{
		FS: vfs.Inject(vfs.OS, nil, s.after), Clock: clock.System, Logger: testLogger(t), Caller: alone{}, SegmentBytes: 4096,
		Network: func(NetworkParams) Network { return alone{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.m = m
	s.mu.Unlock()
	m.Start()
	eventually(t, m, "the first versions", at(m, "3.7.0", "3.7.0")) // the member's own last entry: none comes while it stops
	deadline := time.Now().Add(patience)
	for i := 0; ; i++ {
		put(t, m, fmt.Sprint(i), strings.Repeat("v", 100))
		s.mu.Lock()
		enough := s.removed > 3
		s.mu.Unlock()
		if enough {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no segment of the log goes")
		}
	}
	stop(t, m)
	for _, w := range s.wrong {
		t.Error(w)
	}
	c, w, err := wal.Open(vfs.OS, filepath.Join(dir, "member", "wal"), wal.Options{Clock: clock.System})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if end := m.machine.applied(); c.Mark.Index != end || m.data.store.Committed().Index != end {
		t.Errorf("a clean stop at %d left a record at %d and a store at %d", end, c.Mark.Index, m.data.store.Committed().Index)
	}
	got, err := snap.Load(vfs.OS, filepath.Join(dir, "member", "snap"), func(index, term uint64) bool { return index == c.Mark.Index && term == c.Mark.Term })
	if err != nil {
		t.Fatal(err)
	}
	members, err := snap.DecodeV2(got.Data)
	if err != nil || len(members.Members) != 1 || got.ConfState.GetVoters()[0] != members.Members[0].ID || c.Mark.ConfState.GetVoters()[0] != m.ID() {
		t.Errorf("voters %v in the .snap file, %v in the log, members %v (%v)", got.ConfState, c.Mark.ConfState, members, err)
	}
}

// Where the log's loop has failed, what it failed of is the member's reason, and not that a snapshot was not recorded in it.
func TestSnapshotterLeavesTheReason(t *testing.T) {
	m := openIdle(t)
	if err := m.machine.Apply(entries(t, 1, putRequest("a")), nil); err != nil {
		t.Fatal(err)
	}
	m.loop.Stop()
	s := m.workers.snapshotter
	told := make(chan error, 1)
	s.fail = func(err error) { told <- err }
	var running sync.WaitGroup
	running.Go(func() { s.run(m.life.ctx) })
	for range 3 { // the third is taken in once the first is done with
		select {
		case s.wants <- *m.machine.end.Load():
		case err := <-told:
			t.Fatalf("the member's reason is %v", err)
		}
	}
	m.life.cancel()
	running.Wait()
}
