package sim

import (
	"math/rand/v2"

	"go.etcd.io/raft/v3/raftpb"

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
}

type raftMessage = *raftpb.Message

func isProposal(m raftMessage) bool {
	return m.GetType() == raftpb.MsgProp && len(m.GetEntries()) > 0 && m.GetEntries()[0].GetType() == raftpb.EntryNormal
}

// machine gives what server.Deps takes as Machine.
func (f Faults) machine(name string, s seed) func(raftloop.Machine) raftloop.Machine {
	if f.ApplyTwice == 0 || name != "m1" {
		return nil
	}
	return func(m raftloop.Machine) raftloop.Machine {
		return &twiceMachine{Machine: m, chance: f.ApplyTwice, r: s.rand("twice")}
	}
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
