package logging

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"keelson/internal/kit/clock"
)

func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSeldom(clock.System)
		due := func(what string, want bool) {
			t.Helper()
			if got := s.Due(what); got != want {
				t.Errorf("%s after %v: %v", what, seldomInterval, got)
			}
		}
		due("a", true)
		due("a", false)
		due("b", true)
		<-time.After(seldomInterval - time.Second)
		due("a", false)
		<-time.After(time.Second)
		due("a", true)
		due("a", false)
		for i := range 4 * seldomMax { // it forgets rather than grows
			due(fmt.Sprint(i), true)
		}
		due("a", true)
	})
}
