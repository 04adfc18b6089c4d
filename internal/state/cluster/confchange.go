package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/storage/schema"
)

// The reasons to refuse a change of membership. Texts and meaning are etcd's.
var (
	// ErrIDRemoved is returned for a change to a member that was removed for good.
	ErrIDRemoved = errors.New("membership: ID removed")
	// ErrIDExists is returned when the member to add is there already.
	ErrIDExists = errors.New("membership: ID exists")
	// ErrIDNotFound is returned when the member to change is not there.
	ErrIDNotFound = errors.New("membership: ID not found")
	// ErrPeerURLExists is returned when another member has one of the peer URLs.
	ErrPeerURLExists = errors.New("membership: peerURL exists")
	// ErrMemberNotLearner is returned when the member to promote votes already.
	ErrMemberNotLearner = errors.New("membership: can only promote a learner member")
	// ErrTooManyLearners is returned when one more learner would exceed --max-learners.
	ErrTooManyLearners = errors.New("membership: too many learner members in cluster")
)

// Context is the JSON that a conf change carries for an addition, update or promotion.
type Context struct {
	schema.Member
	// IsPromote tells a promotion from an addition: raft knows both as "add node".
	IsPromote bool `json:"isPromote,omitempty"`
}

// Change is a decoded conf change: what happens to which member.
type Change struct {
	Type    raftpb.ConfChangeType
	Member  schema.Member
	Promote bool
}

// DecodeChange reads a V1 conf change and its context.
func DecodeChange(cc *raftpb.ConfChange) (Change, error) {
	ch := Change{Type: cc.GetType(), Member: schema.Member{ID: cc.GetNodeId()}}
	if ch.Type == raftpb.ConfChangeRemoveNode {
		return ch, nil
	}
	if len(cc.Context) == 0 && ch.Type != raftpb.ConfChangeUpdateNode {
		return ch, nil
	}
	var ctx Context
	if err := json.Unmarshal(cc.Context, &ctx); err != nil {
		return ch, fmt.Errorf("cluster: read the context of a %v for member %x: %w", ch.Type, ch.Member.ID, err)
	}
	if ctx.ID != ch.Member.ID {
		return ch, fmt.Errorf("cluster: a conf change for member %x carries member %x", ch.Member.ID, ctx.ID)
	}
	ch.Member, ch.Promote = ctx.Member, ctx.IsPromote
	return ch, nil
}

// Validate tells whether the change may take effect on the present state. Every member that applies the same log
// must decide alike; maxLearners is a local setting that etcd consults here all the same.
func (s *State) Validate(ch Change, maxLearners int) error {
	if s.Removed[ch.Member.ID] {
		return ErrIDRemoved
	}
	have, known := s.Member(ch.Member.ID)
	switch ch.Type {
	case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode:
		if ch.Promote {
			if !known {
				return ErrIDNotFound
			}
			if !have.IsLearner {
				return ErrMemberNotLearner
			}
			return nil
		}
		if known {
			return ErrIDExists
		}
		if s.urlTaken(ch.Member) {
			return ErrPeerURLExists
		}
		if ch.Member.IsLearner && ch.Type == raftpb.ConfChangeAddLearnerNode && s.learners() >= maxLearners {
			return ErrTooManyLearners
		}
		return nil
	case raftpb.ConfChangeRemoveNode:
		if !known {
			return ErrIDNotFound
		}
		// Nobody could commit anything any more. Raft panics on it, in a stock member too, so that none that is alive has
		// ever decided otherwise.
		if !have.IsLearner && len(s.Voters()) == 1 {
			return ErrNotEnoughStarted
		}
		return nil
	case raftpb.ConfChangeUpdateNode:
		if !known {
			return ErrIDNotFound
		}
		if s.urlTaken(ch.Member) {
			return ErrPeerURLExists
		}
		return nil
	}
	return fmt.Errorf("cluster: unknown conf change type %v", ch.Type)
}

func (s *State) learners() int {
	n := 0
	for _, m := range s.Members {
		if m.IsLearner {
			n++
		}
	}
	return n
}

// urlTaken tells whether a member other than m has one of m's peer URLs.
func (s *State) urlTaken(m schema.Member) bool {
	for _, o := range s.Members {
		if o.ID == m.ID {
			continue
		}
		for _, u := range m.PeerURLs {
			if slices.Contains(o.PeerURLs, u) {
				return true
			}
		}
	}
	return false
}

// Apply makes a validated change. It gives the member as it is now (for a removal: as it was).
func (c *Cluster) Apply(ch Change) schema.Member {
	now := ch.Member
	c.change(func(s *State) {
		i, known := s.find(ch.Member.ID)
		switch ch.Type {
		case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode:
			if ch.Promote {
				s.Members[i].IsLearner = false
				now = s.Members[i]
				return
			}
			now.IsLearner = ch.Type == raftpb.ConfChangeAddLearnerNode
			if known {
				s.Members[i] = now
				return
			}
			s.Members = slices.Insert(s.Members, i, now)
		case raftpb.ConfChangeRemoveNode:
			if known {
				now = s.Members[i]
				s.Members = slices.Delete(s.Members, i, i+1)
			}
			s.Removed[ch.Member.ID] = true
		case raftpb.ConfChangeUpdateNode:
			s.Members[i].PeerURLs = ch.Member.PeerURLs
			now = s.Members[i]
		}
	})
	return now
}
