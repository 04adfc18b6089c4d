package server

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/mvcc"
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
	// SlowReads and FailedReads count questions for a read index without an answer: in time, or at all.
	SlowReads, FailedReads int64
	// LateHeartbeats counts those that this member, leading, sent too late.
	LateHeartbeats int64
	// Installing is set while a snapshot from the leader replaces all state.
	Installing bool
	// Keys, CompactRev and Counts are those of the key space, ReadTxns what is open in the store.
	Keys, CompactRev int64
	Counts           *mvcc.Counts
	ReadTxns         int
	// Reached tells of each member of the cluster whether there is a connection to it; of this one it says yes.
	Reached map[uint64]bool
}

// Stats gives the counts as of now.
func (m *Member) Stats() Stats {
	s, v := m.workers.stats, m.data.state.KV.View()
	reached := map[uint64]bool{}
	for _, p := range m.data.state.Cluster.State().Members {
		reached[p.ID] = p.ID == m.data.id || !m.network.ActiveSince(p.ID).IsZero()
	}
	return Stats{
		Reached:       reached,
		LeaderChanges: s.leaderChanges.Load(), ProposalsPending: s.pending.Load(), ProposalsFailed: s.failed.Load(),
		SlowApplies: m.machine.slow.count.Load(), Leases: int64(m.Leases.table.Len()),
		Members:   int64(len(reached)),
		SlowReads: m.reads().late.Load(), FailedReads: m.reads().failed.Load(), LateHeartbeats: m.loop.LateHeartbeats(),
		Installing: m.machine.installing.Load(),
		Keys:       v.Keys(), CompactRev: v.CompactRev(), Counts: m.data.state.KV.Counts(), ReadTxns: m.data.store.OpenReadTxns(),
	}
}
