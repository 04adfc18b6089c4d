package logging

import (
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/recent"
)

const (
	// seldomInterval is how often the same thing is told: whoever is refused comes back, many a time each second.
	seldomInterval = time.Minute
	// seldomMax bounds what is remembered for it.
	seldomMax = 512
)

// Seldom says what is worth a line: once a minute each, so that whoever can reach a port can't fill a disk by the log. Any
// goroutine may ask.
type Seldom struct {
	clock clock.Clock
	told  *recent.Map[string, time.Time]
}

// NewSeldom gives one that remembers nothing yet.
func NewSeldom(c clock.Clock) *Seldom {
	return &Seldom{c, recent.New[string, time.Time](seldomMax)}
}

// Due tells whether something, by whom and why, is to be told now. Who asks tells it.
func (s *Seldom) Due(what string) bool {
	now := s.clock.Now()
	if at, ok := s.told.Get(what); ok && now.Sub(at) < seldomInterval {
		return false
	}
	s.told.Put(what, now)
	return true
}
