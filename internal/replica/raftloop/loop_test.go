package raftloop

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/storage/wal"
)

// within runs f in a bubble with a cluster of n.
func within(t *testing.T, n int, f func(t *testing.T, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, n, nil)
		defer c.stop()
		f(t, c)
	})
}

func TestSingleVoter(t *testing.T) {
	within(t, 1, func(t *testing.T, c *cluster) {
		c.propose(1, "a", "b")
		c.propose(1, "c")
		begun := time.Now()
		c.has(1, "a", "b", "c")
		if d := time.Since(begun); d != 0 {
			t.Errorf("waited %v for a time-out", d)
		}
		l := c.nodes[1].loop
		if !l.LocalRead() {
			t.Error("no local reads")
		}
		index, err := l.ReadIndex(t.Context())
		if st := l.Status(); err != nil || index != st.Applied || st.Lead != 1 || st.Applied != st.Commit || st.LeaderChanges != 1 {
			t.Errorf("read index %d, %v; status %+v", index, err, st)
		}
		if err := l.WaitApplied(t.Context(), index); err != nil {
			t.Error(err)
		}
		l.Stop()
		if err := l.Propose(t.Context(), nil); !errors.Is(err, ErrStopped) {
			t.Errorf("after Stop: %v", err)
		}
	})
}

func TestRestart(t *testing.T) {
	within(t, 1, func(t *testing.T, c *cluster) {
		c.propose(1, "a", "b")
		c.has(1, "a", "b")
		nd := c.nodes[1]
		nd.restart() // with the machine's state
		c.propose(1, "c")
		c.has(1, "a", "b", "c")
		nd.loop.Stop()
		nd.machine = &machine{index: 1, term: 1, conf: nd.machine.conf} // the store lost its tail
		nd.restart()
		c.has(1, "a", "b", "c")
	})
}

// A single voter's commit index may lag behind what it acknowledged before a crash: reads wait for the
// first entry of the new term.
func TestReadsAfterRestart(t *testing.T) {
	within(t, 1, func(t *testing.T, c *cluster) {
		c.propose(1, "a")
		c.has(1, "a")
		nd := c.nodes[1]
		nd.loop.Stop()
		nd.wal.state.Commit = new(uint64(1))
		nd.machine = &machine{index: 1, term: 1, conf: nd.machine.conf, gate: make(chan struct{})}
		nd.restart()
		if nd.loop.LocalRead() {
			t.Error("local read before the log is applied")
		}
		got := make(chan uint64, 1)
		go func() {
			index, _ := nd.loop.ReadIndex(t.Context())
			got <- index
		}()
		synctest.Wait()
		if len(got) > 0 {
			t.Errorf("read at %d before the first entry of the term", <-got)
		}
		close(nd.machine.gate)
		if index := <-got; index < 3 {
			t.Errorf("read index %d misses an acknowledged write", index)
		}
	})
}

func TestReplicationAndForwarding(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		c.propose(1, "a")
		c.has(2, "a")
		c.propose(3, "b")
		for id := range c.nodes {
			c.has(id, "a", "b")
			if c.nodes[id].loop.LocalRead() {
				t.Errorf("member %d of three reads alone", id)
			}
		}
		if p := c.nodes[1].loop.Progress(); len(p) != 3 || p[2].Match != p[1].Match {
			t.Errorf("progress %v", p)
		}
		if c.nodes[2].loop.Progress() != nil {
			t.Error("a follower has progress")
		}
	})
}

func TestLossyNetwork(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		c.filter(func(_, _ uint64, m *raftpb.Message) bool { return rng.IntN(3) == 0 })
		var want []string
		for i := range 50 {
			want = append(want, string(rune('A'+i)))
			c.propose(1, want[i])
		}
		for id := range c.nodes {
			c.has(id, want...)
		}
	})
}

func TestProposalsWaitForALeader(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		ctx, cancel := context.WithCancel(t.Context())
		l := c.nodes[2].loop
		if err := errors.Join(l.Propose(ctx, []byte("given up")), l.Propose(t.Context(), []byte("kept"))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		c.elect(1)
		for id := range c.nodes {
			c.has(id, "kept")
		}
	})
}

// A proposal that a leader took and lost is not proposed again by anybody.
func TestLeaderLossNeverTwice(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		c.isolate(1)
		c.propose(1, "lost")
		c.propose(2, "lost too") // on its way to the dead leader
		synctest.Wait()
		c.until("another leader", func() bool { return c.nodes[2].loop.Status().Lead|c.nodes[3].loop.Status().Lead > 1 })
		c.propose(2, "x")
		c.until("x", func() bool { return slices.Equal(c.nodes[2].machine.applied(), []string{"x"}) })
		c.until("stepped down", func() bool { return c.nodes[1].loop.Status().Role != raft.StateLeader })
		c.propose(1, "held") // no leader in sight: waits, and goes to the new one
		c.filter(nil)
		for id := range c.nodes {
			c.has(id, "x", "held")
		}
	})
}

func TestReadIndexNeverStale(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		old := c.elect(1)
		c.propose(1, "a")
		c.has(2, "a")
		index, err := c.nodes[3].loop.ReadIndex(t.Context())
		if err != nil || index < c.nodes[1].machine.index {
			t.Fatalf("follower read %d, %v", index, err)
		}
		c.isolate(1)
		c.nodes[2].loop.SuspectLeader(1, 0)
		c.nodes[3].loop.SuspectLeader(1, 1)
		c.until("another leader", func() bool { return c.nodes[3].loop.Status().Lead > 1 })
		got := make(chan uint64, 1)
		go func() {
			index, _ := old.ReadIndex(t.Context())
			got <- index
		}()
		c.propose(2, "b")
		c.until("b", func() bool { return len(c.nodes[2].machine.applied()) == 2 })
		if len(got) > 0 {
			t.Fatalf("a deposed leader read at %d", <-got)
		}
		want := c.nodes[2].machine.index
		c.filter(nil)
		if index := <-got; index < want {
			t.Fatalf("read at %d misses %d", index, want)
		}
		if err := old.WaitApplied(t.Context(), want); err != nil || len(c.nodes[1].machine.applied()) != 2 {
			t.Fatalf("waited: %v", err)
		}
	})
}

func TestSuspectLeader(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		c.isolate(1)
		begun := time.Now()
		c.nodes[2].loop.SuspectLeader(1, 1)
		c.nodes[3].loop.SuspectLeader(1, 0)
		changed := c.nodes[2].loop.LeaderChanged()
		<-changed
		if st := c.nodes[2].loop.Status(); st.Lead != 3 || time.Since(begun) > 200*time.Millisecond {
			t.Errorf("status %+v after %v", st, time.Since(begun))
		}
		// A suspicion that nobody shares changes nothing: the leader is heard again.
		c.filter(nil)
		before := c.nodes[2].loop.Status()
		c.nodes[2].loop.SuspectLeader(3, 2)
		time.Sleep(time.Second)
		if st := c.nodes[2].loop.Status(); st.Lead != 3 || st.Term != before.Term || st.LeaderChanges != before.LeaderChanges {
			t.Errorf("before %+v, after %+v", before, st)
		}
	})
}

func TestTransfer(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		l := c.elect(1)
		if err := c.nodes[2].loop.TransferLeadership(t.Context(), 3); !errors.Is(err, ErrNotLeader) {
			t.Error(err)
		}
		if err := l.TransferLeadership(t.Context(), 9); !errors.Is(err, ErrNoTarget) {
			t.Error(err)
		}
		c.filter(func(_, _ uint64, m *raftpb.Message) bool { return m.GetType() == raftpb.MsgTimeoutNow })
		done := make(chan error, 1)
		go func() { done <- l.TransferLeadership(t.Context(), 2) }()
		synctest.Wait()
		c.propose(1, "a") // waits for the transfer to fail
		synctest.Wait()
		if len(c.nodes[1].machine.applied()) > 0 {
			t.Error("proposed during a transfer")
		}
		if err := <-done; !errors.Is(err, ErrTransferFailed) {
			t.Error(err)
		}
		c.has(3, "a")
		c.filter(nil)
		begun := time.Now()
		if err := l.TransferLeadership(t.Context(), 0); err != nil || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		c.propose(1, "b")
		c.has(1, "a", "b")
		if l.Status().Role == raft.StateLeader {
			t.Error("still leads")
		}
	})
}

func TestConfChange(t *testing.T) {
	within(t, 1, func(t *testing.T, c *cluster) {
		c.propose(1, "a")
		c.has(1, "a")
		l := c.nodes[1].loop
		cc := func(t raftpb.ConfChangeType, id uint64) *raftpb.ConfChange {
			return &raftpb.ConfChange{Type: t.Enum(), NodeId: new(id)}
		}
		c.add(2, &raftpb.ConfState{Voters: []uint64{1}})
		c.add(3, &raftpb.ConfState{Voters: []uint64{1}})
		// The second comes while the first is not applied: raft would make it an empty entry.
		for id := uint64(2); id <= 3; id++ {
			if err := l.ProposeConfChange(t.Context(), cc(raftpb.ConfChangeAddNode, id)); err != nil {
				t.Fatal(err)
			}
		}
		c.propose(1, "b")
		for id := range c.nodes {
			c.has(id, "a", "b")
			if got := c.nodes[id].machine.conf.GetVoters(); len(got) != 3 {
				t.Errorf("member %d: voters %v", id, got)
			}
		}
		if l.LocalRead() {
			t.Error("reads alone in a cluster of three")
		}
		if _, err := l.ReadIndex(t.Context()); err != nil {
			t.Error(err)
		}
		for id := uint64(2); id <= 3; id++ {
			if err := c.nodes[3].loop.ProposeConfChange(t.Context(), cc(raftpb.ConfChangeRemoveNode, id)); err != nil {
				t.Fatal(err)
			}
		}
		c.until("alone again", l.LocalRead)
	})
}

func TestSnapshotToALaggard(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		l := c.elect(1)
		c.propose(1, "a")
		c.has(3, "a")
		c.isolate(3)
		c.propose(1, "b", "c")
		c.has(1, "a", "b", "c")
		m := c.nodes[1].machine
		l.append.catchUp = 0 // nothing is kept; before any mark, so nobody reads it
		if err := l.MarkSnapshot(wal.Mark{Index: m.index, Term: m.term, ConfState: m.conf}); err != nil {
			t.Fatal(err)
		}
		if first, _ := l.core.log.FirstIndex(); first != m.index+1 || c.nodes[1].wal.released != m.index {
			t.Fatalf("the log starts at %d, released to %d, want %d", first, c.nodes[1].wal.released, m.index)
		}
		c.filter(nil)
		c.has(3, "a", "b", "c")
		c.propose(3, "d")
		c.has(3, "a", "b", "c", "d")
		if got := c.nodes[3].wal.mark.Index; got != m.index-1 {
			t.Errorf("mark %d", got)
		}
		// A snapshot of its own that it had begun before that one came gets no record behind it.
		if err := c.nodes[3].loop.MarkSnapshot(wal.Mark{Index: 2, Term: m.term, ConfState: m.conf}); err != nil {
			t.Error(err)
		}
		if got := c.nodes[3].wal.mark.Index; got != m.index-1 {
			t.Errorf("mark %d behind that of the snapshot", got)
		}
		c.nodes[3].restart()
		c.propose(3, "e")
		c.has(3, "a", "b", "c", "d", "e")
	})
}

func TestHungDiskHandsOver(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		l := c.elect(1)
		c.nodes[1].wal.mu.Lock()
		hang := make(chan struct{})
		c.nodes[1].wal.hang = hang
		c.nodes[1].wal.mu.Unlock()
		c.propose(1, "a")
		c.has(2, "a") // the others commit without this disk
		c.until("handed over", func() bool { return c.nodes[2].loop.Status().Lead > 1 })
		if l.Status().Role == raft.StateLeader {
			t.Error("still leads")
		}
		close(hang)
		c.has(1, "a")
	})
}

func TestHungDiskFallsSilent(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		c.filter(func(_, _ uint64, m *raftpb.Message) bool { return m.GetType() == raftpb.MsgTimeoutNow })
		hang := make(chan struct{})
		c.nodes[1].wal.mu.Lock()
		c.nodes[1].wal.hang = hang
		c.nodes[1].wal.mu.Unlock()
		c.propose(1, "a")
		c.until("another leads", func() bool { return c.nodes[2].loop.Status().Lead|c.nodes[3].loop.Status().Lead > 1 })
		close(hang)
		c.propose(1, "b")
		c.has(1, "a", "b")
	})
}

func TestWriteErrorStopsAll(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		nd := c.nodes[2]
		nd.wal.mu.Lock()
		nd.wal.fail = errors.New("disk gone")
		nd.wal.mu.Unlock()
		c.mu.Lock()
		c.seen = nil
		c.mu.Unlock()
		c.propose(1, "a")
		if err := <-nd.failed; err == nil {
			t.Error("no error")
		}
		<-nd.loop.Done()
		c.has(3, "a")
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, m := range c.seen {
			if m.GetFrom() == 2 && m.GetType() == raftpb.MsgAppResp && m.GetIndex() >= c.nodes[3].machine.index {
				t.Errorf("acknowledged after an error: %v", m)
			}
		}
		if _, err := nd.loop.ReadIndex(t.Context()); !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})
}

func TestStepRefusesLocalMessages(t *testing.T) {
	within(t, 1, func(t *testing.T, c *cluster) {
		for _, m := range []*raftpb.Message{
			{Type: raftpb.MsgHup.Enum()},
			{Type: raftpb.MsgStorageAppendResp.Enum(), From: new(raft.LocalAppendThread)},
			{Type: raftpb.MsgApp.Enum(), Responses: []*raftpb.Message{{}}},
		} {
			if err := c.nodes[1].loop.Step(t.Context(), m); !errors.Is(err, ErrNotRemote) {
				t.Errorf("%v: %v", m, err)
			}
		}
	})
}

// Behind its limits the loop makes proposers wait, and loses, repeats and reorders nothing.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, func(o *Options) { o.UncommittedBytesMax, o.WaitingBytesMax = 100, 50 })
		defer c.stop()
		c.propose(1, "first")
		c.has(1, "first")
		gate := make(chan struct{})
		m := c.nodes[1].machine
		m.mu.Lock()
		m.gate = gate
		m.mu.Unlock()
		want := []string{"first"}
		var sent atomic.Int64
		done := make(chan struct{})
		for i := range 100 {
			want = append(want, string(rune('A'+i%26))+"23456789")
		}
		go func() {
			defer close(done)
			for _, d := range want[1:] {
				if err := c.nodes[1].loop.Propose(t.Context(), []byte(d)); err != nil {
					t.Error(err)
				}
				sent.Add(1)
			}
		}()
		time.Sleep(time.Second)
		if n := sent.Load(); n < 10 || n > 20 {
			t.Errorf("%d proposals of 9 bytes went into 150 bytes", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.nodes[1].loop.Propose(ctx, make([]byte, 49)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no room, and yet: %v", err)
		}
		close(gate)
		<-done
		c.has(1, want...)
	})
}

// Entries that the store has already are not applied again, even when the log lost them and another
// leader sends them once more: a stock leader applies before its own log is synced.
func TestStoreAheadOfLog(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		c.propose(1, "a", "b")
		c.has(1, "a", "b")
		c.has(3, "a", "b")
		nd := c.nodes[1]
		nd.loop.Stop()
		c.isolate(1)
		c.nodes[2].loop.SuspectLeader(1, 0)
		c.nodes[3].loop.SuspectLeader(1, 1)
		c.until("another leads", func() bool { return c.nodes[2].loop.Status().Lead > 1 })
		c.filter(nil)
		nd.wal.ents, nd.wal.durable = nd.wal.ents[:1], 2
		nd.restart()
		m := wal.Mark{Index: nd.machine.index, Term: 2, ConfState: nd.machine.conf}
		if err := nd.loop.MarkSnapshot(m); !errors.Is(err, ErrPastLog) {
			t.Errorf("mark past the log: %v", err)
		}
		c.propose(2, "c")
		c.has(1, "a", "b", "c")
	})
}

// A conf change drops a leader that removes itself, and the others go on.
func TestLeaderRemovesItself(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		l := c.elect(1)
		cc := &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(1))}
		if err := l.ProposeConfChange(t.Context(), cc); err != nil {
			t.Fatal(err)
		}
		c.until("stepped down", func() bool { return l.Status().Role != raft.StateLeader })
		c.until("another leads", func() bool { return c.nodes[2].loop.Status().Lead > 1 })
		c.propose(2, "a")
		c.has(3, "a")
	})
}

func TestLearnerReads(t *testing.T) {
	within(t, 1, func(t *testing.T, c *cluster) {
		c.until("leads", c.nodes[1].loop.LocalRead)
		c.add(2, &raftpb.ConfState{Voters: []uint64{1}})
		cc := &raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(2))}
		if err := c.nodes[1].loop.ProposeConfChange(t.Context(), cc); err != nil {
			t.Fatal(err)
		}
		c.propose(1, "a")
		c.has(2, "a")
		if c.nodes[1].loop.LocalRead() || c.nodes[2].loop.LocalRead() {
			t.Error("reads alone though there is a learner")
		}
		if _, err := c.nodes[1].loop.ReadIndex(t.Context()); err != nil {
			t.Error(err)
		}
		index, err := c.nodes[2].loop.ReadIndex(t.Context())
		if err != nil || index != c.nodes[1].machine.index {
			t.Errorf("read at %d, %v", index, err)
		}
		c.propose(2, "b")
		c.has(2, "a", "b")
	})
}

// The founder's first entries are the conf changes that make it a member: it leads once they are applied.
// TestPromotedBeforeItsLeaderKnows: a learner has applied its promotion and what came after it, and may acknowledge that
// to clients, while the leader, which committed all of it alone, has applied none of it.
func TestPromotedBeforeItsLeaderKnows(t *testing.T) {
	within(t, 1, func(t *testing.T, c *cluster) {
		leader, m := c.nodes[1].loop, c.nodes[1].machine
		c.until("leads", leader.LocalRead)
		c.add(2, &raftpb.ConfState{Voters: []uint64{1}})
		change := func(typ raftpb.ConfChangeType) {
			cc := &raftpb.ConfChange{Type: typ.Enum(), NodeId: new(uint64(2))}
			if err := leader.ProposeConfChange(t.Context(), cc); err != nil {
				t.Fatal(err)
			}
		}
		change(raftpb.ConfChangeAddLearnerNode)
		c.propose(1, "a")
		c.has(2, "a")
		gate := make(chan struct{})
		m.mu.Lock()
		m.gate = gate
		m.mu.Unlock()
		change(raftpb.ConfChangeAddNode)
		c.propose(1, "b")
		c.has(2, "a", "b")
		if got := m.applied(); len(got) != 1 || leader.LocalRead() {
			t.Errorf("the leader's clients see %q, and it is taken for all: %v", got, leader.LocalRead())
		}
		close(gate)
		c.has(1, "a", "b")

		// The other way round: the removed one may still have heard of commits that the leader has not applied.
		gate = make(chan struct{})
		m.mu.Lock()
		m.gate = gate
		m.mu.Unlock()
		commit := leader.Status().Commit
		change(raftpb.ConfChangeRemoveNode)
		c.until("the removal is committed", func() bool { return leader.Status().Commit > commit })
		c.propose(1, "c")
		c.propose(1, "d")
		c.has(2, "a", "b", "c", "d")
		gate <- struct{}{}
		c.until("the removal is applied", func() bool { return len(leader.Progress()) == 1 })
		if got := m.applied(); len(got) < 4 && leader.LocalRead() {
			t.Errorf("reads alone at %q, before what the removed one heard of is applied", got)
		}
		close(gate)
		c.until("alone", leader.LocalRead)
		if got := m.applied(); len(got) != 4 {
			t.Errorf("reads alone at %q", got)
		}
	})
}

// TestRemovedLeaderReads: of two, the leader removes itself where it can't hand over and goes on for a while. The other
// one may lead alone by then, and raft would let the removed one answer reads at once.
func TestRemovedLeaderReads(t *testing.T) {
	within(t, 2, func(t *testing.T, c *cluster) {
		l := c.elect(1)
		c.propose(1, "a")
		c.has(2, "a")
		cc := &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(1))}
		c.filter(func(_, _ uint64, m *raftpb.Message) bool { return m.GetType() == raftpb.MsgTimeoutNow })
		if err := l.ProposeConfChange(t.Context(), cc); err != nil {
			t.Fatal(err)
		}
		c.until("the removal is applied at both", func() bool {
			for _, nd := range c.nodes {
				nd.machine.mu.Lock()
				n := len(nd.machine.conf.GetVoters())
				nd.machine.mu.Unlock()
				if n != 1 {
					return false
				}
			}
			return true
		})
		c.isolate(1)
		c.until("the other one leads", c.nodes[2].loop.LocalRead)
		c.propose(2, "b")
		c.has(2, "a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), testTick)
		defer cancel()
		if index, err := l.ReadIndex(ctx); err == nil || l.LocalRead() {
			t.Errorf("a removed member reads at %d of %d, its role is %v", index, c.nodes[2].loop.Status().Applied, l.Status().Role)
		}
	})
}

func TestFounding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cc, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(1))})
		if err != nil {
			t.Fatal(err)
		}
		c := &cluster{t: t, nodes: map[uint64]*node{}}
		defer c.stop()
		e := &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Index: new(uint64(1)), Term: new(uint64(1)), Data: cc}
		nd := &node{c: c, id: 1, failed: make(chan error, 1)}
		nd.wal = &memWAL{first: 1, durable: 1, ents: []*raftpb.Entry{e}}
		nd.wal.state = &raftpb.HardState{Term: new(uint64(1)), Commit: new(uint64(1))}
		nd.machine = &machine{conf: &raftpb.ConfState{}}
		c.nodes[1] = nd
		nd.start()
		c.propose(1, "a")
		c.has(1, "a")
		if !nd.loop.LocalRead() || nd.machine.index != 3 {
			t.Errorf("applied up to %d", nd.machine.index)
		}
	})
}

// raft can only panic when the log can't be read; the loop makes a stop of it.
func TestReadErrorStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, func(o *Options) { o.WindowBytesMax = 1 })
		defer c.stop()
		c.elect(1)
		c.isolate(3)
		c.propose(1, "a", "b")
		c.has(1, "a", "b")
		nd := c.nodes[1]
		nd.wal.mu.Lock()
		nd.wal.fail = errors.New("disk gone")
		nd.wal.mu.Unlock()
		c.filter(nil)
		err := <-nd.failed
		<-nd.loop.Done()
		if _, read := nd.loop.ReadIndex(t.Context()); !strings.Contains(err.Error(), "read log entries") || !errors.Is(read, ErrStopped) {
			t.Errorf("failed with %v, read %v", err, read)
		}
	})
}
