package server

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
)

// proposalStats counts proposals and leaders. All fields are atomics: anybody may read them.
type proposalStats struct {
	pending, failed atomic.Int64
	leaderChanges   atomic.Int64
	// elected is when the present leader was first seen, in Unix nanoseconds.
	elected atomic.Int64
}

// leaderFailed tells whether a request that began at start may have been lost with an old leader: the present one was
// elected after the start, and no longer than window after it.
func (s *proposalStats) leaderFailed(start time.Time, window time.Duration) bool {
	elected := time.Unix(0, s.elected.Load())
	return start.Before(elected) && start.After(elected.Add(-window))
}

// watchLeader notes changes of leader until ctx is done.
func (s *proposalStats) watchLeader(ctx context.Context, loop *raftloop.Loop, c clock.Clock, logger *zap.Logger) {
	var lead uint64
	for {
		changed := loop.LeaderChanged()
		if st := loop.Status(); st.Lead != lead {
			logger.Info("leader changed", zap.String("from", hexID(lead)), zap.String("to", hexID(st.Lead)), zap.Uint64("term", st.Term))
			lead = st.Lead
			if lead != 0 {
				s.leaderChanges.Add(1)
				s.elected.Store(c.Now().UnixNano())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// Stats is what a member counts of itself since its start.
type Stats struct {
	LeaderChanges, ProposalsPending, ProposalsFailed, SlowApplies, Leases, Members int64
}

// Stats gives the counts as of now.
func (m *Member) Stats() Stats {
	s := m.workers.stats
	return Stats{
		LeaderChanges: s.leaderChanges.Load(), ProposalsPending: s.pending.Load(), ProposalsFailed: s.failed.Load(),
		SlowApplies: m.machine.slow.stats.slow.Load(), Leases: int64(m.Leases.table.Len()),
		Members: int64(len(m.data.state.Cluster.State().Members)),
	}
}

// applyStats counts what was applied.
type applyStats struct {
	slow atomic.Int64
	// OnApply, if set, is told how long one entry took on average, and how many there were.
	OnApply func(each time.Duration, entries int)
}

func (s *applyStats) observe(took time.Duration, entries int) {
	if s.OnApply != nil {
		s.OnApply(took/time.Duration(entries), entries)
	}
}
