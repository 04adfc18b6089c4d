package sim

import (
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/wire"
	"keelson/internal/replica/raftloop"
)

// Faults are planted to prove that the checkers find them. The zero value plants none. Each is the chance that a
// case of it happens.
type Faults struct {
	LostSyncs       float64 // a datasync of the log does nothing
	ApplyTwice      float64 // one member applies an entry twice
	RepeatProposals float64 // a proposal on its way to the leader arrives twice
	DropEvents      float64 // an event doesn't reach its watcher
	StaleReads      float64 // a linearizable read is answered without its ReadIndex
	ForgetWrites    float64 // a write is acknowledged that was never made
	FastClock       float64 // not a chance: the members' clocks run so many times too fast
	// These are there or not.
	OtherConf    bool // a snapshot message carries a configuration of another index
	StillCounted bool // one member's raft goes on counting members that were removed
	HideRemovals bool // nobody is told that it was removed, unless it learns it from its own log
	SecretDisarm bool // somebody clears the alarms that the checker believes raised
	DeafToAlarms bool // one member misses alarms
	HideStarted  bool // members are told of as never started, so that one whose disk was lost is taken for new
}

// ofMembers tells whether a change of membership can show the fault.
func (f Faults) ofMembers() bool {
	return f.OtherConf || f.StillCounted || f.HideRemovals || f.HideStarted
}

type raftMessage = *raftpb.Message

func isProposal(m raftMessage) bool {
	return m.GetType() == raftpb.MsgProp && len(m.GetEntries()) > 0 && m.GetEntries()[0].GetType() == raftpb.EntryNormal
}

// machine puts the faults of a member's state machine around m.
func (f Faults) machine(name string, s seed, m raftloop.Machine) raftloop.Machine {
	switch {
	case name != "m1":
		return m
	case f.ApplyTwice > 0:
		return &twiceMachine{Machine: m, chance: f.ApplyTwice, r: s.rand("twice")}
	case f.StillCounted:
		return deafMachine{m}
	case f.DeafToAlarms:
		return calmMachine{m}
	}
	return m
}

// deafMachine doesn't tell raft who was removed.
type deafMachine struct{ raftloop.Machine }

func (m deafMachine) Apply(ents []*raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) error {
	return m.Machine.Apply(ents, func(cc *raftpb.ConfChange) *raftpb.ConfState {
		if cc.GetType() == raftpb.ConfChangeRemoveNode {
			cc.NodeId = new(uint64)
		}
		return change(cc)
	})
}

// twiceMachine applies some entries twice.
type twiceMachine struct {
	raftloop.Machine
	chance float64
	r      *rand.Rand // of the apply thread
}

func (m *twiceMachine) Apply(ents []*raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) error {
	var all []*raftpb.Entry
	for _, e := range ents {
		all = append(all, e)
		if e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 && m.r.Float64() < m.chance {
			all = append(all, e)
		}
	}
	return m.Machine.Apply(all, change)
}

// calmMachine takes requests about alarms for empty entries.
type calmMachine struct{ raftloop.Machine }

func (m calmMachine) Apply(ents []*raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) error {
	for i, e := range ents {
		var r pb.InternalRaftRequest
		if e.GetType() == raftpb.EntryNormal && wire.DecodeInternalRequest(e.GetData(), &r) == nil && r.Alarm != nil {
			ents[i] = proto.Clone(e).(*raftpb.Entry)
			ents[i].Data = nil
		}
	}
	return m.Machine.Apply(ents, change)
}
