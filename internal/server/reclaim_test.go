package server

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/apply"
	"keelson/internal/kit/wire"
	"keelson/internal/storage/schema"
)

// openIdle opens a single member that is not started: the test hands entries to its machine itself.
func openIdle(t testing.TB, more ...string) *Member {
	t.Helper()
	m, err := New(testConfig(t, t.TempDir(), more...), testDeps(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	return m
}

// entries makes log entries of requests, from index first on.
func entries(t testing.TB, first uint64, reqs ...*pb.InternalRaftRequest) []*raftpb.Entry {
	t.Helper()
	ents := make([]*raftpb.Entry, len(reqs))
	for i, r := range reqs {
		r.Header = &pb.RequestHeader{ID: first + uint64(i)}
		data, err := wire.AppendInternalRequest(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		ents[i] = &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Index: new(first + uint64(i)), Term: new(uint64(1)), Data: data}
	}
	return ents
}

func putRequest(key string) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte(key), Value: []byte("v")}}
}

func compaction(rev int64) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{Compaction: &pb.CompactionRequest{Revision: rev}}
}

// TestInterruptedCompaction checks that a compaction which the member's stop interrupts is not noted as finished: what
// it has not deleted would stay for ever.
func TestInterruptedCompaction(t *testing.T) {
	m := openIdle(t)
	var reqs []*pb.InternalRaftRequest
	for range 3 * reclaimStep {
		reqs = append(reqs, putRequest("k"))
	}
	reqs = append(reqs, compaction(int64(len(reqs))))
	if err := m.machine.Apply(entries(t, 1, reqs...), nil); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	m.workers.reclaimer.compact(ended, int64(len(reqs)-1))
	if err := m.data.store.Sync(t.Context(), m.machine.applied()); err != nil {
		t.Fatal(err)
	}
	scheduled, err := apply.LoadRevision(m.data.store, schema.ScheduledCompactKey)
	if err != nil || scheduled < 2 {
		t.Fatal(scheduled, err)
	}
	if finished, err := apply.LoadRevision(m.data.store, schema.FinishedCompactKey); err != nil || finished > 1 {
		t.Errorf("an interrupted compaction is noted as finished at %d (%v)", finished, err)
	}
}

// TestReclaimerSeesQueuedState checks that whoever holds the machine's mutex sees only state that is queued for the
// store. The reclaimer asks the store to delete what a compaction made dead: never ahead of the compaction itself.
func TestReclaimerSeesQueuedState(t *testing.T) {
	const puts = 4000
	m := openIdle(t, "--backend-batch-interval", "1h", "--backend-batch-limit", "1000000") // nothing is committed
	all := make([][]*raftpb.Entry, puts)
	for i := range all {
		all[i] = entries(t, uint64(i+1), putRequest("k"))
	}
	if err := m.machine.Apply(all[0], nil); err != nil {
		t.Fatal(err)
	}
	each := m.data.store.Pending()
	done := make(chan error, 1)
	go func() {
		for _, ents := range all[1:] {
			if err := m.machine.Apply(ents, nil); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
		m.machine.mu.Lock()
		revs, queued := m.data.state.KV.Rev()-1, m.data.store.Pending()/each
		m.machine.mu.Unlock()
		if queued < revs { // later batches are a few bytes larger than the first
			t.Fatalf("%d revisions are in memory, and %d of them queued for the store", revs, queued)
		}
	}
}

// TestEvictionUnderLoad checks that superseded values leave memory while the machine's mutex is hardly ever free.
func TestEvictionUnderLoad(t *testing.T) {
	m := openIdle(t)
	m.machine.mu.Lock()
	done := make(chan struct{})
	go func() {
		m.workers.reclaimer.evict()
		close(done)
	}()
	select {
	case <-done:
		t.Error("the mutex was not free, and nothing was evicted")
	case <-time.After(50 * time.Millisecond):
	}
	m.machine.mu.Unlock()
	<-done
}
