package raftloop

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// shortcut tells whether published state is linearizable without asking anybody: this member is the
// leader and only member, and has applied an entry of its own term and all that others may have heard of. Nobody else can
// commit or acknowledge then. A learner hears of commits before the leader has applied them, and may vote, and answer
// clients, by the time it has. holds is cleared before a configuration with more members takes effect. The rest belongs to
// the loop's goroutine.
type shortcut struct {
	holds   atomic.Bool
	single  bool   // the configuration has one voter, this member
	alone   bool   // and no learner
	foreign bool   // it has voters, and this member is none of them
	leader  bool   // as of the last Ready
	term    uint64 // the member's
	applied uint64 // term of the newest entry that the Machine has published
	index   uint64 // of that entry
	heard   uint64 // the commit index that members of the configuration before may have heard of
}

func (s *shortcut) update() {
	s.holds.Store(s.alone && s.leader && s.applied == s.term && s.index >= s.heard)
}

// unripe tells that this leader may not answer reads, though raft would do so at once where there is one voter. As that
// voter its commit index may lag behind what it has acknowledged in a former life, until an entry of its own term is applied.
// As a leader that was removed it does not hear of the voter who leads by now.
func (s *shortcut) unripe() bool { return s.leader && (s.foreign || s.single && s.applied != s.term) }

// settle notes a configuration in force.
func (s *shortcut) settle(id uint64, cs *raftpb.ConfState) {
	s.single = len(cs.GetVoters()) == 1 && cs.GetVoters()[0] == id && len(cs.GetVotersOutgoing()) == 0
	s.alone = s.single && len(cs.GetLearners()) == 0
	s.foreign = len(cs.GetVoters()) > 0 && !slices.Contains(cs.GetVoters(), id)
}

// core is what the loop's goroutine owns: raft itself, and who waits for it. It waits for nobody: no
// disk, no lock held over one, no full queue.
type core struct {
	o         *Options
	rn        *raft.RawNode
	log       *Log
	in        *inbox
	out       Transport
	append    *appender
	apply     *applier
	board     *board
	soft      raft.SoftState
	commit    uint64
	cut       shortcut
	pump      pump
	reads     reads
	guard     guard
	elections elections
}

// run drives raft until the loop is told to stop, then serves the apply thread until that is done too.
func (c *core) run(life *life) {
	defer c.failed(life)
	c.campaignAlone()
	ticker := c.o.Clock.NewTicker(c.o.Tick)
	defer ticker.Stop()
	ticks := ticker.C
	if c.o.ManualTick {
		ticks = nil
	}
	var w work
	for {
		ticked := 0
		select {
		case <-life.quit:
			return
		case <-c.in.wake:
			// Whoever is ready to run may still add to this pass. Idle, this costs nothing.
			runtime.Gosched()
		case <-ticks:
			ticked = 1
		case <-c.elections.fire():
			c.elections.attempt(c)
		}
		c.in.take(&w)
		w.ticks += ticked
		c.pass(&w)
	}
}

// failed turns a failed read of the log, which raft can only panic with, into a stop of the member, and
// then serves what the threads still ask.
func (c *core) failed(life *life) {
	if v := recover(); v != nil {
		e, ok := v.(*readError)
		if !ok {
			panic(v)
		}
		life.fail(e.err)
	}
	c.elections.cancel()
	var w work
	for _, done := range []chan struct{}{c.append.done, c.apply.done} {
		for running := true; running; {
			select {
			case <-done:
				running = false
			case <-c.in.wake:
				c.in.take(&w)
				for _, f := range w.calls {
					f()
				}
			}
		}
	}
}

// pass is one turn: all that waits goes into raft, then all that raft wants done goes out. What peers
// sent comes before the tick, so that a late pass does not take a waiting heartbeat for a missing one.
func (c *core) pass(w *work) {
	for _, f := range w.calls {
		f()
	}
	for _, m := range w.local {
		c.stepLocal(m)
	}
	for _, m := range w.received {
		c.stepReceived(m)
	}
	for range w.ticks {
		c.tick()
	}
	c.pump.add(w.proposals)
	for {
		now := c.append.watch.now()
		c.pump.run(c.rn, now, c.accepts)
		if c.cut.holds.Load() {
			c.reads.local(c.apply.applied.Load())
		} else if c.soft.Lead != raft.None && !c.cut.unripe() {
			c.reads.take(c.rn, now)
		}
		if !c.rn.HasReady() {
			return
		}
		c.ready(c.rn.Ready())
	}
}

// stepLocal steps a response of the append or apply thread.
func (c *core) stepLocal(m *raftpb.Message) {
	_ = c.rn.Step(m) // refused only for a member that is no longer in the configuration
	switch m.GetType() {
	case raftpb.MsgStorageApplyResp:
		c.pump.retry(false)
		ents := m.GetEntries()
		last := ents[len(ents)-1]
		c.log.settle(last.GetIndex())
		c.cut.index = last.GetIndex()
		if t := last.GetTerm(); t > c.cut.applied {
			c.cut.applied = t
			c.askAgain() // a leader holds reads until the first commit in its term, and may have lost them
		}
		c.cut.update()
		c.campaignAlone()
	case raftpb.MsgStorageAppendResp:
		if s := m.GetSnapshot(); s != nil {
			c.cut.settle(c.o.ID, s.GetMetadata().GetConfState())
			c.cut.update()
		}
	}
}

func (c *core) stepReceived(m *raftpb.Message) {
	c.elections.note(m.GetFrom())
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if last, _ := c.log.LastIndex(); c.elections.withholds(last, m.GetIndex()) { // LastIndex never fails
			return
		}
	case raftpb.MsgHeartbeat:
		// A leader tells a member of what is committed as far as that member has said it has it. Raft would panic.
		if last, _ := c.log.LastIndex(); m.GetCommit() > last {
			c.apply.life.fail(fmt.Errorf("%w (they reach %d, the log %d)", ErrLogLost, m.GetCommit(), last))
			return
		}
	case raftpb.MsgProp:
		c.pump.forward(m, c.append.watch.now())
		return
	case raftpb.MsgReadIndex:
		// raft lets an only voter answer with its commit index at once. After a restart that index may
		// lag behind what this member has acknowledged, so a learner's question waits for its retry.
		if c.cut.unripe() || c.cut.single && !c.cut.leader {
			return
		}
	}
	_ = c.rn.Step(m) // refused if it is from nobody in the configuration
}

func (c *core) tick() {
	c.rn.Tick()
	now := c.append.watch.now()
	c.pump.retry(false)
	c.pump.prune(now)
	if c.soft.Lead != raft.None && !c.cut.unripe() {
		c.reads.retry(c.rn, now)
	}
	c.guard.tick(c, c.append.stalled(now))
	c.elections.tick()
}

// accepts tells whether raft would take a proposal now, rather than drop it.
func (c *core) accepts(st *raft.BasicStatus) bool {
	if st.RaftState == raft.StateLeader {
		return st.LeadTransferee == raft.None && !c.guard.hung()
	}
	return st.RaftState == raft.StateFollower && st.Lead != raft.None
}

// ready hands out what raft wants done. The log's writes are queued before the entries to apply, so that
// the commit index of an applied entry is always on its way to the disk before a snapshot of it.
func (c *core) ready(rd raft.Ready) {
	if rd.HardState != nil {
		c.cut.term, c.commit = rd.HardState.GetTerm(), rd.HardState.GetCommit()
	}
	if rd.SoftState != nil {
		c.turned(*rd.SoftState)
	}
	if rd.HardState != nil || rd.SoftState != nil {
		c.cut.update()
		c.show() // a commit index before its entries are applied: see Loop.Status
	}
	if n := len(rd.Entries); n > 0 {
		c.pump.appended(rd.Entries[n-1].GetIndex())
	}
	for _, s := range rd.ReadStates {
		c.reads.answer(s)
	}
	remote := rd.Messages[:0]
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			c.append.queue.push(appendItem{msg: m})
		case raft.LocalApplyThread:
			c.apply.queue.push(applyItem{msg: m})
		default:
			if c.guard.withholds(m) {
				continue
			}
			if m.GetType() == raftpb.MsgHeartbeat {
				c.guard.beats.sent(c.o, m.GetTo(), c.append.watch.now())
			}
			if s := m.GetSnapshot(); s != nil {
				c.log.pin(m.GetTo(), s.GetMetadata().GetIndex())
			}
			remote = append(remote, m)
		}
	}
	if len(remote) > 0 {
		c.out.Send(remote)
	}
}

// show posts where this member stands. A leader that is forgotten on suspicion is no change yet.
func (c *core) show() {
	c.board.post(c.soft.Lead, c.cut.term, c.commit, c.soft.RaftState, c.elections.suspecting())
}

// turned takes in another leader or role.
func (c *core) turned(s raft.SoftState) {
	found := s.Lead != raft.None && s.Lead != c.soft.Lead
	c.soft, c.cut.leader = s, s.RaftState == raft.StateLeader
	c.guard.beats.begin()
	c.pump.retry(true)
	c.elections.turned(c.o.ID, s)
	if found {
		c.askAgain()
	}
}

// askAgain repeats the question of the readers that wait: a change of leader or term loses it.
func (c *core) askAgain() {
	if c.soft.Lead != raft.None && !c.cut.unripe() {
		c.reads.ask(c.rn, c.append.watch.now())
	}
}

// change applies a conf change that the apply thread has come to. It runs before raft learns that the
// entry was applied.
func (c *core) change(cc *raftpb.ConfChange) *raftpb.ConfState {
	c.cut.single, c.cut.alone = false, false
	st := c.rn.BasicStatus()
	c.cut.heard = st.GetCommit()
	c.cut.update()
	cs := c.rn.ApplyConfChange(cc)
	c.cut.settle(c.o.ID, cs)
	return cs
}

// campaignAlone makes an only voter lead without waiting for a time-out: there is nobody to disturb.
func (c *core) campaignAlone() {
	if c.cut.single && c.soft.RaftState == raft.StateFollower && c.soft.Lead == raft.None {
		_ = c.rn.Campaign() // never fails; raft ignores it while a committed conf change is not applied
	}
}

// progress is what the leader knows of each member; nil on others.
func (c *core) progress() map[uint64]tracker.Progress {
	if c.rn.BasicStatus().RaftState != raft.StateLeader {
		return nil
	}
	m := make(map[uint64]tracker.Progress)
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) { m[id] = pr })
	return m
}
