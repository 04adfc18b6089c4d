package raftloop

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

const (
	// rankStep staggers the members that lost the same leader: more than a round trip and two syncs,
	// or they split the vote and wait for a whole time-out.
	rankStep = 50 * time.Millisecond
	// suspectTriesMax bounds the campaigns after one suspicion. The ordinary time-out goes on after that.
	suspectTriesMax = 5
)

// transfer is a caller that waits for leadership to go to a member.
type transfer struct {
	to    uint64
	ticks int // until raft gives up
	done  chan error
}

// elections holds the elections that this member was asked for. It belongs to the loop's goroutine.
type elections struct {
	o         *Options
	transfers []*transfer
	timer     *time.Timer // of the next campaign against a suspected leader; nil when there is none
	rank      int
	tries     int
	// ticks counts time, and heard is when each member was heard of last.
	ticks uint64
	heard map[uint64]uint64
	// unproven is the end of a log that may have been longer once; 0: it was not.
	unproven uint64
	// departing is the term in which this leader, who is to be removed, has tried to hand over.
	departing uint64
}

// note takes in that a member was heard of.
func (e *elections) note(id uint64) { e.heard[id] = e.ticks }

// near tells whether a member was heard of within an election time-out.
func (e *elections) near(id uint64) bool {
	at, ok := e.heard[id]
	return ok && e.ticks-at <= uint64(e.o.ElectionTicks)
}

// withholds tells whether a candidate whose log ends at theirs gets no vote: see Loop.Prove.
func (e *elections) withholds(last, theirs uint64) bool {
	return e.unproven > 0 && e.unproven == last && theirs > last
}

// suspect forgets leader id, so that this member votes for another at once, and campaigns itself rank
// steps later.
func (e *elections) suspect(c *core, id uint64, rank int) {
	if !c.o.PreVote || id == c.o.ID || id == raft.None || c.rn.BasicStatus().Lead != id {
		return
	}
	e.cancel()
	_ = c.rn.ForgetLeader() // never fails
	e.rank, e.tries = rank, 0
	e.timer = c.o.Clock.NewTimer(time.Duration(rank) * rankStep)
}

func (e *elections) suspecting() bool { return e.timer != nil }

// fire is ready when attempt is due.
func (e *elections) fire() <-chan time.Time {
	if e.timer == nil {
		return nil
	}
	return e.timer.C
}

// attempt campaigns, unless a leader was heard or a campaign is under way, and comes back for a lost one.
func (e *elections) attempt(c *core) {
	st := c.rn.BasicStatus()
	if st.Lead != raft.None || e.tries >= suspectTriesMax {
		e.cancel()
		c.show()
		return
	}
	e.tries++
	if st.RaftState != raft.StateCandidate {
		_ = c.rn.Campaign() // never fails
	}
	e.timer = c.o.Clock.NewTimer(time.Duration(e.rank+2) * rankStep)
}

func (e *elections) cancel() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}

// turned settles the transfers that another leader decides.
func (e *elections) turned(id uint64, s raft.SoftState) {
	if s.Lead == raft.None {
		return
	}
	e.cancel()
	if s.Lead == id {
		return
	}
	for _, t := range e.transfers {
		if t.to == s.Lead {
			t.done <- nil
		} else {
			t.done <- ErrTransferFailed
		}
	}
	e.transfers = nil
}

// transfer starts handing over to a voter; 0 lets it choose the one with the longest log.
func (e *elections) transfer(c *core, to uint64) (*transfer, error) {
	if c.rn.BasicStatus().RaftState != raft.StateLeader {
		return nil, ErrNotLeader
	}
	if to == 0 {
		to = c.heir()
	}
	t := &transfer{to: to, ticks: c.o.ElectionTicks + 1, done: make(chan error, 1)}
	if to == c.o.ID {
		t.done <- nil
		return t, nil
	}
	pr, ok := c.progress()[to]
	if !ok || pr.IsLearner {
		return nil, ErrNoTarget
	}
	c.rn.TransferLeader(to)
	e.transfers = append(e.transfers, t)
	return t, nil
}

// tick gives up what raft has given up: it tries for one election time-out.
func (e *elections) tick() {
	e.ticks++
	left := e.transfers[:0]
	for _, t := range e.transfers {
		if t.ticks--; t.ticks <= 0 {
			t.done <- ErrTransferFailed
			continue
		}
		left = append(left, t)
	}
	clear(e.transfers[len(left):])
	e.transfers = left
}

// heir is the voter beside this one that has the longest log of those heard of within an election time-out, 0 if there
// is none: nobody else could take over.
func (c *core) heir() (id uint64) {
	var longest uint64
	c.rn.WithProgress(func(other uint64, typ raft.ProgressType, pr tracker.Progress) {
		if other == c.o.ID || typ != raft.ProgressTypePeer || !c.elections.near(other) {
			return
		}
		if id == 0 || pr.Match > longest {
			id, longest = other, pr.Match
		}
	})
	return id
}

// departs tells whether a conf change that waits to be proposed removes this leader, and hands over if somebody can take
// over: it then goes to the new leader. What followers forward is lost where the leader is removed in office.
func (c *core) departs(e *raftpb.Entry) bool {
	var cc raftpb.ConfChange
	if c.elections.departing == c.cut.term || e.GetType() != raftpb.EntryConfChange || proto.Unmarshal(e.GetData(), &cc) != nil ||
		cc.GetType() != raftpb.ConfChangeRemoveNode || cc.GetNodeId() != c.o.ID {
		return false
	}
	to := c.heir()
	if to == 0 {
		return false
	}
	c.elections.departing = c.cut.term // once: if nobody takes over, the change goes its way here
	c.o.Logger.Info("to be removed: handing leadership over", zap.Uint64("to", to))
	c.rn.TransferLeader(to)
	return true
}
