package server

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/clock"
	"keelson/internal/storage/snap"
)

// later is a clock that is ahead by what the test says.
type later struct {
	clock.Clock
	by atomic.Int64
}

func (l *later) Now() time.Time { return l.Clock.Now().Add(time.Duration(l.by.Load())) }

// offered asks for a snapshot, as raft does, until it is made.
func offered(t *testing.T, s *sendables) *raftpb.Snapshot {
	t.Helper()
	for {
		meta, err := s.metadata()
		if err == nil {
			return meta
		}
		if !errors.Is(err, raft.ErrSnapshotTemporarilyUnavailable) {
			t.Fatal(err)
		}
		s.work.Wait()
	}
}

// TestSendSnapshot checks that what is told of a snapshot and its file are of one index, that the file is handed out once,
// and that neither a follower which never fetches it nor one which takes nothing more holds the store's pages for long.
func TestSendSnapshot(t *testing.T) {
	m := openIdle(t)
	if err := m.machine.Apply(entries(t, 1, putRequest("a"), putRequest("b")), nil); err != nil {
		t.Fatal(err)
	}
	c := &later{Clock: m.deps.Clock}
	s := m.workers.sendables
	s.clock = c
	meta := offered(t, s)
	if meta.GetMetadata().GetIndex() != 2 || meta.GetMetadata().GetTerm() != 1 {
		t.Errorf("snapshot of %v", meta.GetMetadata())
	}
	if v, err := snap.DecodeV2(meta.GetData()); err != nil || len(v.Members) != len(m.data.state.Cluster.State().Members) {
		t.Errorf("members %v, %v", v, err)
	}
	msg := &raftpb.Message{Snapshot: meta}
	r, size, err := s.open(msg)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n != size {
		t.Errorf("the file has %d bytes, not %d (%v)", n, size, err)
	}
	if _, _, err := s.open(msg); !errors.Is(err, errNotSendable) {
		t.Errorf("handed out twice: %v", err)
	}
	s.work.Wait()

	offered(t, s)
	if _, _, err = s.open(msg); err != nil {
		t.Fatal(err)
	}
	held := m.data.store.OpenReadTxns()
	c.by.Add(int64(sendStall + time.Second))
	s.expire(false)
	s.work.Wait()
	if n := m.data.store.OpenReadTxns(); n != 0 || held == 0 {
		t.Errorf("%d read transactions are open for a follower that takes nothing, %d before", n, held)
	}

	offered(t, s)
	c.by.Add(int64(sendableExpiry + time.Second))
	s.expire(false)
	if n := m.data.store.OpenReadTxns(); n != 0 {
		t.Errorf("%d read transactions are open for a follower that never came", n)
	}
}

// stuck is a client that takes one piece of a snapshot and then nothing until it is let go.
type stuck struct{ took, let chan struct{} }

func (s *stuck) Write(p []byte) (int, error) {
	select {
	case <-s.took:
	default:
		close(s.took)
	}
	<-s.let
	return len(p), nil
}

// gone is a client that has gone away.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A client that takes nothing more of a snapshot, and one that has gone, hold the store's pages no longer than a follower.
func TestSnapshotToStalledClient(t *testing.T) {
	m := openIdle(t)
	large := putRequest("a")
	large.Put.Value = make([]byte, 1<<20)
	if err := m.machine.Apply(entries(t, 1, large), nil); err != nil {
		t.Fatal(err)
	}
	c := &later{Clock: m.deps.Clock}
	m.workers.sendables.clock = c
	to := func(w io.Writer) func(int64, string) io.Writer { return func(int64, string) io.Writer { return w } }
	if err := m.Snapshot(t.Context(), to(gone{})); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("to a client that has gone: %v", err)
	}
	m.workers.sendables.work.Wait()
	if n := m.data.store.OpenReadTxns(); n != 0 {
		t.Errorf("%d read transactions are open for a client that has gone", n)
	}

	client := &stuck{make(chan struct{}), make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- m.Snapshot(t.Context(), to(client)) }()
	<-client.took
	m.workers.sendables.expire(false)
	if n := m.data.store.OpenReadTxns(); n != 1 {
		t.Errorf("%d read transactions are open for a client that reads", n)
	}
	c.by.Add(int64(sendStall + time.Second))
	m.workers.sendables.expire(false)
	m.workers.sendables.work.Wait()
	if n := m.data.store.OpenReadTxns(); n != 0 {
		t.Errorf("%d read transactions are open for a client that takes nothing", n)
	}
	close(client.let)
	if err := <-ended; !errors.Is(err, errStalled) {
		t.Errorf("the client that had stalled is told %v", err)
	}
}
