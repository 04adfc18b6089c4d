package server

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/apply"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// TestKilledWhileFounding kills a member at each operation of its first start on its log: at the next start the log
// has its founder, without whom nobody would ever be elected.
func TestKilledWhileFounding(t *testing.T) {
	killed := errors.New("killed")
	for at := int64(0); ; at++ {
		var ops atomic.Int64 // the log prepares segments on a goroutine of its own
		fs := vfs.Inject(vfs.OS, func(op vfs.Op) error {
			switch filepath.Ext(op.Path) {
			case ".wal", ".tmp", "":
				if ops.Add(1) > at {
					return killed
				}
			}
			return nil
		}, nil)
		dir := t.TempDir()
		m, err := New(testConfig(t, dir), Deps{
			FS: fs, Clock: clock.System, Logger: testLogger(t), Caller: alone{},
			Network: func(NetworkParams) Network { return alone{} },
		})
		if err == nil {
			m.Kill()
			if at < 5 {
				t.Fatalf("founding took %d operations: the test sees none of them", at)
			}
			return
		}
		d := Deps{FS: vfs.OS, Clock: clock.System, Logger: testLogger(t), Caller: alone{}, Network: func(NetworkParams) Network { return alone{} }}
		if m, err = New(testConfig(t, dir), d); err != nil {
			t.Fatal(err)
		}
		if last, _ := m.data.log.LastIndex(); last != 1 {
			t.Errorf("killed at operation %d: the log ends with entry %d, without its founder", at, last)
		}
		m.Kill()
	}
}

// TestStopBeforeStart checks that a member which was opened and never started lets go of its directory.
func TestStopBeforeStart(t *testing.T) {
	dir := t.TempDir()
	m := start(t, testConfig(t, dir))
	put(t, m, "k", "v")
	if err := m.data.store.Sync(t.Context(), m.machine.applied()); err != nil { // so that a stop would have something to record
		t.Fatal(err)
	}
	m.Kill()
	d := Deps{FS: vfs.OS, Clock: clock.System, Logger: testLogger(t), Caller: alone{}, Network: func(NetworkParams) Network { return alone{} }}
	m, err := New(testConfig(t, dir), d)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		_ = m.Stop(t.Context())
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("the stop does not end")
	}
	m = start(t, testConfig(t, dir))
	if got := get(t, m, "k", 0); got != "v" {
		t.Errorf("k is %q", got)
	}
	stop(t, m)
}

// aheadOfLog gives a store that holds entries up to 10 of term 3, and a log that ends with 8, of term 2.
func aheadOfLog(t *testing.T, voters ...uint64) (*opened, *wal.Contents) {
	t.Helper()
	o := &opened{}
	var err error
	o.store, err = store.Open(vfs.OS, filepath.Join(t.TempDir(), "db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	b := &store.Batch{Index: 10, Term: 3}
	for _, id := range voters {
		b.Put(schema.Members, schema.MemberKey(id), schema.EncodeMember(schema.Member{ID: id, PeerURLs: []string{"http://127.0.0.1:1"}}))
	}
	// Left by etcd's restore of a snapshot: the configuration of another cluster.
	b.Put(schema.Meta, schema.ConfStateKey, schema.ConfStateJSON(&raftpb.ConfState{Voters: []uint64{77}}))
	o.store.Append(b)
	if err := o.store.Sync(context.Background(), 10); err != nil {
		t.Fatal(err)
	}
	o.state = newState(testConfig(t, t.TempDir()), Deps{Clock: clock.System, Logger: testLogger(t)}, o.store)
	if _, err := apply.Load(o.store, o.state); err != nil {
		t.Fatal(err)
	}
	c := &wal.Contents{State: &raftpb.HardState{Term: new(uint64(3)), Commit: new(uint64(7))}}
	for i := range uint64(8) {
		c.Entries = append(c.Entries, &raftpb.Entry{Index: new(i + 1), Term: new(uint64(2))})
	}
	return o, c
}

// TestStateAheadOfLog opens what a stock member leaves that applied entries before its log was synced. A member of a
// cluster gets them again; an only member has lost them.
func TestStateAheadOfLog(t *testing.T) {
	o, c := aheadOfLog(t, 1, 2, 3)
	if err := o.join(c); err != nil {
		t.Fatal(err)
	}
	if want := (mark{10, 3}); o.applied != want {
		t.Errorf("the member begins at %v with the membership as of %v", o.applied, want)
	}
	if hs, conf, _ := o.log.InitialState(); hs.GetCommit() != 8 || len(conf.Voters) != 3 {
		t.Errorf("raft begins with %v, %v", hs, conf)
	}
	o, c = aheadOfLog(t, 1)
	if err := o.join(c); !errors.Is(err, ErrLogLost) {
		t.Errorf("an only member with a lost log: %v", err)
	}
}
