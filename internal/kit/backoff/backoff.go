// Package backoff spaces the attempts at something that fails: each pause is twice the one before, up to a bound.
package backoff

import (
	"context"
	"time"

	"keelson/internal/kit/clock"
)

// Backoff is the pauses of one caller. It is for one goroutine.
type Backoff struct {
	clock             clock.Clock
	first, most, next time.Duration
}

// New gives pauses from first to most.
func New(c clock.Clock, first, most time.Duration) *Backoff {
	return &Backoff{clock: c, first: first, most: most, next: first}
}

// Next is how long the next pause is.
func (b *Backoff) Next() time.Duration { return b.next }

// Reset makes the next pause the first again: something went well.
func (b *Backoff) Reset() { b.next = b.first }

// Wait pauses. It fails where ctx ends first.
func (b *Backoff) Wait(ctx context.Context) error {
	t := b.clock.NewTimer(b.next)
	defer t.Stop()
	b.next = min(2*b.next, b.most)
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
