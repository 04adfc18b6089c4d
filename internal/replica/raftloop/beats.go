package raftloop

import (
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// beats sees whether a leader's heartbeats go out on time: one that comes later than two intervals after the one before is
// told of in etcd's words, which operators look for. All but late belongs to the loop's goroutine.
type beats struct {
	last map[uint64]time.Duration // by follower, of this leadership
	late atomic.Int64
}

// begin forgets the heartbeats of an earlier leadership.
func (b *beats) begin() { clear(b.last) }

// sent is told of each heartbeat that goes out.
func (b *beats) sent(o *Options, to uint64, now time.Duration) {
	if o.ManualTick {
		return // time is the owner's
	}
	if b.last == nil {
		b.last = map[uint64]time.Duration{}
	}
	last, ok := b.last[to]
	b.last[to] = now
	expected := 2 * o.Tick
	if !ok || now-last <= expected {
		return
	}
	b.late.Add(1)
	o.Logger.Warn("leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk",
		zap.String("to", fmt.Sprintf("%x", to)), zap.Duration("heartbeat-interval", o.Tick),
		zap.Duration("expected-duration", expected), zap.Duration("exceeded-duration", now-last-expected))
}

// LateHeartbeats counts the heartbeats that this member, leading, sent too late.
func (l *Loop) LateHeartbeats() int64 { return l.core.guard.beats.late.Load() }
