package watch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestIndex joins and leaves random spans, and compares who is touched with asking every span.
func TestIndex(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	key := func() string { return fmt.Sprintf("%03d", rng.IntN(300))[:1+rng.IntN(3)] }
	x := newIndex()
	var joined []*watcher
	for range 5000 {
		if len(joined) > 0 && rng.IntN(100) < 48 {
			i := rng.IntN(len(joined))
			x.leave(joined[i])
			joined = slices.Delete(joined, i, i+1)
		} else {
			s := span{key: key()}
			switch rng.IntN(3) {
			case 0:
				s.end = "\x00"
			case 1:
				s.end = s.key + "9"
			}
			w := &watcher{}
			x.join(w, s)
			joined = append(joined, w)
		}
		x.passes++
		x.touched = x.touched[:0]
		at := []byte(key())
		x.match(at, 1)
		want := map[*group]bool{}
		for _, w := range joined {
			if w.group.span.has(at) {
				want[w.group] = true
			}
		}
		if len(x.touched) != len(want) {
			t.Fatalf("%d groups at %q, want %d", len(x.touched), at, len(want))
		}
		for _, g := range x.touched {
			if !want[g] {
				t.Fatalf("%v touched by %q", g.span, at)
			}
		}
	}
	for _, w := range joined {
		x.leave(w)
	}
	if x.tree != nil || len(x.singles)+len(x.ranges) != 0 {
		t.Error("an empty group stayed")
	}
}
