package sim

import (
	"time"

	"keelson/internal/kit/clock"
)

// offsetClock is a member's clock: the bubble's, set wrong. It runs as fast as everybody's, but where a fault is planted:
// then fast is how much faster, from start on.
type offsetClock struct {
	offset time.Duration
	start  time.Time
	fast   float64
}

var _ clock.Clock = offsetClock{}

func (c offsetClock) Now() time.Time {
	ahead := time.Duration(float64(time.Since(c.start)) * c.fast)
	return time.Now().Add(c.offset + ahead)
}

func (c offsetClock) NewTimer(d time.Duration) *time.Timer   { return time.NewTimer(d) }
func (c offsetClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }
