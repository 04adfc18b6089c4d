package sim

import (
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/replica/raftloop"
)

// confs is what each conf change made of raft's configuration, as the members that applied it saw it.
type confs struct {
	mu   sync.Mutex // guards all below
	at   map[uint64]conf
	gone map[uint64]bool
	// newest is what the change at the highest index left, before what was there until then.
	newest, before *raftpb.ConfState
	last           uint64
}

// conf is a configuration: who votes and who learns, ascending.
type conf struct{ voters, learners string }

func confOf(cs *raftpb.ConfState) conf {
	return conf{fmt.Sprintf("%x", slices.Sorted(slices.Values(cs.GetVoters()))), fmt.Sprintf("%x", slices.Sorted(slices.Values(cs.GetLearners())))}
}

func newConfs() *confs { return &confs{at: map[uint64]conf{}, gone: map[uint64]bool{}} }

// note takes in that the entry at index left raft with cs. It gives what another member was left with, if that differs.
func (c *confs) note(index uint64, cc *raftpb.ConfChange, cs *raftpb.ConfState) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := confOf(cs)
	if was, ok := c.at[index]; ok && was != now {
		return fmt.Errorf("%w: the change at index %d leaves one with %v, another with %v", ErrConf, index, was, now)
	}
	c.at[index] = now
	if index > c.last {
		c.last, c.newest, c.before = index, cs, c.newest
	}
	if cc.GetType() == raftpb.ConfChangeRemoveNode && cc.GetNodeId() != 0 {
		c.gone[cc.GetNodeId()] = true
	}
	return nil
}

// removed tells whether a member's removal was applied anywhere.
func (c *confs) removed(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone[id]
}

// as gives the configuration as of an index.
func (c *confs) as(index uint64) conf {
	c.mu.Lock()
	defer c.mu.Unlock()
	var best uint64
	for i := range c.at {
		if i <= index {
			best = max(best, i)
		}
	}
	return c.at[best]
}

// check compares a configuration that was written down or sent with the one that was in force at its index.
func (c *confs) check(what string, index uint64, cs *raftpb.ConfState) error {
	if want, got := c.as(index), confOf(cs); want != got {
		return fmt.Errorf("%w: %s at index %d holds %v, in force was %v", ErrConf, what, index, got, want)
	}
	return nil
}

// machine gives what server.Deps takes as Machine: a witness of conf changes, and the faults that are planted.
func (c *cluster) machine(name string) func(raftloop.Machine) raftloop.Machine {
	return func(m raftloop.Machine) raftloop.Machine {
		return &witness{Machine: c.plan.Faults.machine(name, c.seed, m), c: c}
	}
}

// witness watches what a member's machine does with raft's configuration.
type witness struct {
	raftloop.Machine
	c *cluster
}

func (w *witness) Apply(ents []*raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) error {
	var changes []uint64
	for _, e := range ents {
		if e.GetType() != raftpb.EntryNormal {
			changes = append(changes, e.GetIndex())
		}
	}
	return w.Machine.Apply(ents, func(cc *raftpb.ConfChange) *raftpb.ConfState {
		cs := change(cc)
		if err := w.c.confs.note(changes[0], cc, cs); err != nil {
			w.c.fail("%w", err)
		}
		changes = changes[1:]
		return cs
	})
}

func (w *witness) Snapshot() (*raftpb.Snapshot, error) {
	s, err := w.Machine.Snapshot()
	if err != nil {
		return s, err
	}
	if w.c.plan.Faults.OtherConf {
		s = proto.Clone(s).(*raftpb.Snapshot)
		s.Metadata.ConfState = w.c.confs.before
	}
	if err := w.c.confs.check("a snapshot message", s.GetMetadata().GetIndex(), s.GetMetadata().GetConfState()); err != nil {
		w.c.fail("%w", err)
	}
	return s, nil
}
