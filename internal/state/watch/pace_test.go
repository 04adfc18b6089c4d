package watch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"keelson/internal/kit/clock"
)

// Pieces that two read at the same time are followed by the rests of both, and an end of the context ends a rest.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		began := time.Now()
		if !p.wait(t.Context(), clock.System) || !time.Now().Equal(began) {
			t.Error("the first piece had to wait")
		}
		for range 2 {
			p.note(began.Add(-time.Millisecond), began)
		}
		if !p.wait(t.Context(), clock.System) || time.Since(began) != 2*restShare*time.Millisecond {
			t.Errorf("the rest took %v", time.Since(began))
		}
		p.note(began, began.Add(time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if p.wait(ctx, clock.System) {
			t.Error("the rest ended before its time")
		}
	})
}
