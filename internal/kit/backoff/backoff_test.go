package backoff

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"keelson/internal/kit/clock"
)

func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(clock.System, time.Second, 5*time.Second)
		var took []time.Duration
		for i := range 6 {
			if i == 5 {
				b.Reset()
			}
			began, want := time.Now(), b.Next()
			if err := b.Wait(t.Context()); err != nil || time.Since(began) != want {
				t.Fatalf("%v after %v, not %v", err, time.Since(began), want)
			}
			took = append(took, want)
		}
		if want := []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9, 1e9}; !slices.Equal(took, want) {
			t.Errorf("%v, not %v", took, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
