package peer

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
)

// reasonsMax bounds the different reasons that are logged while a member is away: each is told once.
const reasonsMax = 8

// status is whether a member is reached, by whatever way was tried last.
type status struct {
	clock clock.Clock
	log   *zap.Logger
	lost  func() // called with mu held

	mu    sync.Mutex // guards the rest
	since time.Time  // zero: it is not reached
	told  map[string]bool
}

func (s *status) activeSince() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since
}

func (s *status) up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since, s.told = s.clock.Now(), nil
		s.log.Info("peer became active")
	}
}

func (s *status) down(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := err.Error()
	switch {
	case !s.since.IsZero():
		s.since = time.Time{}
		s.lost()
		s.log.Warn("peer became inactive", zap.Error(err))
	case s.told[text] || len(s.told) >= reasonsMax:
		return
	default:
		s.log.Warn("failed to reach peer", zap.Error(err))
	}
	if s.told == nil {
		s.told = map[string]bool{}
	}
	s.told[text] = true
}
