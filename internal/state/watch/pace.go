package watch

import (
	"context"
	"sync"
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/state/mvcc"
)

// archive is what has left the ring, and how fast it may be read.
type archive struct {
	mvcc.History
	pace pace
}

// restShare is how long reading history rests, as a multiple of what it took: all streams that catch up together take a
// ninth of one core, and about as much again to send, so that puts hardly notice them. A piece of 1,000 revisions takes
// one or two milliseconds, which is still some 50,000 to 100,000 revisions a second; on a busy machine pieces take longer, and so
// do the rests.
const restShare = 8

// pace keeps those who read history from taking the processors away from everybody else.
type pace struct {
	mu   sync.Mutex
	free time.Time // when the next piece may be read; guarded by mu
}

// wait returns when it is time for a piece, false if ctx ended before.
func (p *pace) wait(ctx context.Context, c clock.Clock) bool {
	for {
		p.mu.Lock()
		rest := p.free.Sub(c.Now())
		p.mu.Unlock()
		if rest <= 0 {
			return ctx.Err() == nil
		}
		t := c.NewTimer(rest)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// note makes everybody rest for a piece that was read from start to end. Rests of pieces that were read at the same time
// add up.
func (p *pace) note(start, end time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(end) {
		p.free = end
	}
	p.free = p.free.Add(restShare * end.Sub(start))
}
