package sim

import (
	"time"

	"keelson/internal/kit/clock"
)

// offsetClock is a member's clock: the bubble's, set wrong. It runs as fast as everybody's.
type offsetClock struct{ offset time.Duration }

var _ clock.Clock = offsetClock{}

func (c offsetClock) Now() time.Time                         { return time.Now().Add(c.offset) }
func (c offsetClock) NewTimer(d time.Duration) *time.Timer   { return time.NewTimer(d) }
func (c offsetClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }
