package server

import (
	"fmt"
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/state/cluster"
)

// connectedFor is how long a connection must have held to count for a change of membership: etcd's.
const connectedFor = 5 * time.Second

// reconfigGuard refuses changes of membership that would leave the cluster without a majority. --strict-reconfig-check
// switches it on.
type reconfigGuard struct {
	strict bool
	id     uint64
	clock  clock.Clock
	// activeSince tells since when the connection to a member is up; zero: it is down.
	activeSince func(id uint64) time.Time
}

// add checks the addition of one member.
func (g *reconfigGuard) add(st *cluster.State, learner bool) error {
	if !g.strict {
		return nil
	}
	if !learner {
		if err := st.MayAddVoter(); err != nil {
			return err
		}
	}
	voters := len(st.Voters())
	// The newcomer counts as not there.
	if n := g.connected(st); voters > 1 && n < cluster.Quorum(voters+1) {
		return fmt.Errorf("%w: this member has been connected to %d of %d voters for %v, itself among them", ErrUnhealthy, n, voters, connectedFor)
	}
	return nil
}

// remove checks the removal of one member.
func (g *reconfigGuard) remove(st *cluster.State, id uint64) error {
	if !g.strict {
		return nil
	}
	if m, ok := st.Member(id); ok && m.IsLearner {
		return nil
	}
	if err := st.MayRemoveVoter(id); err != nil {
		return err
	}
	if id != g.id && g.activeSince(id).IsZero() {
		return nil // one that is down is no part of the majority that works
	}
	voters := len(st.Voters())
	if n := g.connected(st); n-1 < cluster.Quorum(voters-1) {
		return fmt.Errorf("%w: this member has been connected to %d of %d voters for %v, itself among them", ErrUnhealthy, n, voters, connectedFor)
	}
	return nil
}

// promote checks that a learner may become a voter.
func (g *reconfigGuard) promote(st *cluster.State) error {
	if !g.strict {
		return nil
	}
	return st.MayPromote()
}

// connected counts the voters that this member has been connected to for a while, itself included.
func (g *reconfigGuard) connected(st *cluster.State) int {
	n := 0
	since := g.clock.Now().Add(-connectedFor)
	for _, m := range st.Voters() {
		if t := g.activeSince(m.ID); m.ID == g.id || !t.IsZero() && t.Before(since) {
			n++
		}
	}
	return n
}
