package raftloop

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// guard watches the disk of a leader. With asynchronous writes heartbeats go on while a sync hangs, so
// the leader would lead for ever without applying anything. A sync that outlasts an election time-out
// makes it hand over; if nobody takes over within another, it falls silent until the sync returns, and
// the others elect. It belongs to the loop's goroutine.
type guard struct {
	stage stage
	ticks int // of handing over, left
	beats beats
}

type stage int

const (
	healthy stage = iota
	handing
	silent
)

// tick looks at the sync in flight, which has lasted for stalled.
func (g *guard) tick(c *core, stalled time.Duration) {
	limit := time.Duration(c.o.ElectionTicks) * c.o.Tick
	if c.soft.RaftState != raft.StateLeader || stalled < limit {
		if g.stage == silent {
			c.o.Logger.Info("the disk answers again, or another member leads: heartbeats resume")
		}
		g.stage = healthy
		return
	}
	switch g.stage {
	case healthy:
		to := c.heir()
		if to == 0 {
			return
		}
		c.o.Logger.Warn("the disk hangs: handing leadership over", zap.Duration("sync", stalled), zap.Uint64("to", to))
		g.stage, g.ticks = handing, c.o.ElectionTicks
		c.rn.TransferLeader(to)
	case handing:
		if g.ticks--; g.ticks <= 0 {
			c.o.Logger.Warn("the disk hangs: withholding heartbeats", zap.Duration("sync", stalled))
			g.stage = silent
		}
	}
}

// hung tells that proposals should wait: this member can't answer them.
func (g *guard) hung() bool { return g.stage != healthy }

// withholds tells whether m would keep this leader in office. Entries do as heartbeats do.
func (g *guard) withholds(m *raftpb.Message) bool {
	if g.stage != silent {
		return false
	}
	t := m.GetType()
	return t == raftpb.MsgHeartbeat || t == raftpb.MsgApp || t == raftpb.MsgSnap
}
