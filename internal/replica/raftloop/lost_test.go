package raftloop

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/storage/wal"
)

// wipe gives a member an empty disk and starts it again.
func (nd *node) wipe() {
	nd.loop.Stop()
	conf := nd.wal.mark.ConfState
	nd.wal = &memWAL{first: 2, durable: 1, mark: wal.Mark{Index: 1, Term: 1, ConfState: conf}}
	nd.wal.state = &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))}
	nd.machine = &machine{index: 1, term: 1, conf: conf, wal: nd.wal}
	nd.start()
}

// A leader goes on as if a member still had what it acknowledged. Raft panics there; the member stops and says why.
func TestHeartbeatBeyondTheLog(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		c.propose(1, "a", "b")
		c.has(3, "a", "b")
		c.nodes[3].wipe()
		if err := <-c.nodes[3].failed; !errors.Is(err, ErrLogLost) {
			t.Errorf("it ends with %v", err)
		}
		c.propose(1, "c")
		c.has(2, "a", "b", "c")
	})
}

// A member that may have lost what it acknowledged gives no vote to a candidate with more, until it is proven that it lost
// nothing.
func TestUnprovenMemberHoldsItsVote(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		c.propose(1, "a")
		c.has(2, "a")
		c.isolate(1)
		c.tune = func(o *Options) { o.Unproven = true }
		c.nodes[3].wipe()
		second := c.nodes[2].loop
		for range 20 {
			second.Campaign()
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if second.Status().Role == raft.StateLeader {
			t.Fatal("elected by a vote that may undo an acknowledged write")
		}
		c.nodes[3].loop.Prove()
		c.until("elected", func() bool { second.Campaign(); return second.Status().Role == raft.StateLeader })
		c.has(3, "a")
		c.filter(nil)
	})
}

// A leader that is to be removed hands over first, and the new leader removes it.
func TestLeaderHandsOverBeforeItsRemoval(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		c.elect(1)
		cc := &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(1))}
		if err := c.nodes[2].loop.ProposeConfChange(t.Context(), cc); err != nil { // forwarded to 1
			t.Fatal(err)
		}
		// The removed one may not hear of it here: who has acknowledged nothing to the new leader yet is sent nothing, and then it
		// is no member any more. Peers tell it when it calls.
		for _, id := range []uint64{2, 3} {
			c.until("removed", func() bool {
				c.nodes[id].machine.mu.Lock()
				defer c.nodes[id].machine.mu.Unlock()
				return len(c.nodes[id].machine.conf.GetVoters()) == 2
			})
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, m := range c.seen {
			for _, e := range m.GetEntries() {
				if m.GetType() == raftpb.MsgApp && m.GetFrom() == 1 && e.GetType() == raftpb.EntryConfChange {
					t.Fatal("it was removed in office")
				}
			}
		}
	})
}

// With nobody heard of there is no heir: a transfer fails at once, not after a time-out.
func TestNoHeirWhenAloneLeft(t *testing.T) {
	within(t, 3, func(t *testing.T, c *cluster) {
		l := c.elect(1)
		heir := func() (id uint64) {
			if err := l.do(t.Context(), func(c *core) { id = c.heir() }); err != nil {
				t.Fatal(err)
			}
			return id
		}
		if heir() == 0 {
			t.Error("two followers, and no heir")
		}
		c.isolate(1)
		time.Sleep(12 * testTick) // more than an election time-out; raft may need two to see that it leads nobody
		synctest.Wait()
		if id := heir(); id != 0 {
			t.Errorf("%d is to take over, of whom nothing was heard", id)
		}
		begun := time.Now()
		if err := l.TransferLeadership(t.Context(), 0); err == nil || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		c.filter(nil)
	})
}
