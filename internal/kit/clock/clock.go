// Package clock is the one door to time: whoever waits or reads a clock takes a Clock when it is built.
// Production passes System; the simulation passes a clock of its own that runs inside a testing/synctest
// bubble, with an offset for each member.
package clock

import "time"

// Clock tells the time and makes timers. All methods may be called from any goroutine.
type Clock interface {
	// Now gives the wall time with its monotonic reading.
	Now() time.Time
	// NewTimer gives a timer that fires once after d.
	NewTimer(d time.Duration) *time.Timer
	// NewTicker gives a ticker that fires every d (> 0).
	NewTicker(d time.Duration) *time.Ticker
}

// System is the machine's own clock.
var System Clock = system{}

type system struct{}

func (system) Now() time.Time                         { return time.Now() }
func (system) NewTimer(d time.Duration) *time.Timer   { return time.NewTimer(d) }
func (system) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }
