// Package cluster is the replicated membership: who belongs to the cluster, who was removed, its version, a
// downgrade under way, and raft's own configuration. Apply changes it entry by entry; everybody else reads an
// immutable State, published as a whole. It is written to the store by apply, from what a State holds.
package cluster

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/storage/schema"
)

// State is the membership as of one applied entry. It is never changed once published.
type State struct {
	// Members are sorted by ID.
	Members []schema.Member
	// Removed holds the IDs that may never come back.
	Removed map[uint64]bool
	// Version is the cluster version, such as "3.7.0"; empty until one is set.
	Version string
	// Downgrade is the downgrade under way, if Enabled.
	Downgrade schema.Downgrade
	// Conf is raft's configuration. Its members are those of Members.
	Conf *raftpb.ConfState
}

// Member gives the member with that ID.
func (s *State) Member(id uint64) (schema.Member, bool) {
	i, ok := s.find(id)
	if !ok {
		return schema.Member{}, false
	}
	return s.Members[i], true
}

// IDs gives all members' IDs, ascending.
func (s *State) IDs() []uint64 {
	ids := make([]uint64, len(s.Members))
	for i, m := range s.Members {
		ids[i] = m.ID
	}
	return ids
}

func (s *State) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(s.Members, id, func(m schema.Member, id uint64) int {
		switch {
		case m.ID < id:
			return -1
		case m.ID > id:
			return 1
		}
		return 0
	})
}

// Cluster holds the current State. One goroutine at a time changes it; any may read it.
type Cluster struct {
	state atomic.Pointer[State]
}

// New gives a cluster that starts from s.
func New(s State) *Cluster {
	c := &Cluster{}
	c.Reset(s)
	return c
}

// Reset replaces all state, at start and after an incoming snapshot.
func (c *Cluster) Reset(s State) {
	slices.SortFunc(s.Members, func(a, b schema.Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	if s.Removed == nil {
		s.Removed = map[uint64]bool{}
	}
	if s.Conf == nil {
		s.Conf = &raftpb.ConfState{}
	}
	c.state.Store(&s)
}

// State gives the membership as last published.
func (c *Cluster) State() *State { return c.state.Load() }

// change publishes a copy of the state after f changed it. f may replace fields and write to Members and
// Removed, which are its own.
func (c *Cluster) change(f func(*State)) {
	old := c.state.Load()
	next := *old
	next.Members = slices.Clone(old.Members)
	next.Removed = maps.Clone(old.Removed)
	f(&next)
	c.state.Store(&next)
}

// SetConf records raft's configuration after a change.
func (c *Cluster) SetConf(cs *raftpb.ConfState) {
	c.change(func(s *State) { s.Conf = proto.Clone(cs).(*raftpb.ConfState) })
}

// SetVersion records the cluster version, such as "3.7.0".
func (c *Cluster) SetVersion(v string) { c.change(func(s *State) { s.Version = v }) }

// SetDowngrade records a downgrade that began or ended.
func (c *Cluster) SetDowngrade(d schema.Downgrade) { c.change(func(s *State) { s.Downgrade = d }) }

// SetAttributes records the name and client URLs that a member published. It tells whether the member is known.
func (c *Cluster) SetAttributes(id uint64, name string, clientURLs []string) (schema.Member, bool) {
	var m schema.Member
	i, ok := c.state.Load().find(id)
	if !ok {
		return m, false
	}
	c.change(func(s *State) {
		s.Members[i].Name, s.Members[i].ClientURLs = name, clientURLs
		m = s.Members[i]
	})
	return m, true
}

// AtLeast tells whether the cluster version is major.minor or newer; false while none is set.
func (s *State) AtLeast(major, minor int) bool {
	v, err := semver.NewVersion(s.Version)
	if err != nil {
		return false
	}
	return v.Major > int64(major) || v.Major == int64(major) && v.Minor >= int64(minor)
}
