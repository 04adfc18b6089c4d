package recent

import (
	"math/rand/v2"
	"testing"
)

func TestKeepsWhatIsAskedFor(t *testing.T) {
	m := New[int, int](10)
	m.Put(0, 42)
	for i := 1; i < 1000; i++ {
		m.Put(i, i)
		if v, ok := m.Get(0); !ok || v != 42 {
			t.Fatalf("after %d others: got %d, %v of an entry that is asked for each time", i, v, ok)
		}
	}
	if _, ok := m.Get(1); ok {
		t.Error("an entry that nobody asked for outlived hundreds of others")
	}
}

// TestAgainstMap compares with a map that forgets nothing: what the bounded one has must be equal, and what was deleted
// must not come back.
func TestAgainstMap(t *testing.T) {
	const size = 16
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	m, twin := New[int, int](size), map[int]int{}
	for step := range 20_000 {
		k := rng.IntN(3 * size)
		switch rng.IntN(3) {
		case 0:
			m.Put(k, step)
			twin[k] = step
			if v, ok := m.Get(k); !ok || v != step {
				t.Fatalf("seed %d, step %d: %d was put and is gone", seed, step, k)
			}
		case 1:
			m.Delete(k)
			delete(twin, k)
		case 2:
			if v, ok := m.Get(k); ok {
				if want, there := twin[k]; !there || v != want {
					t.Fatalf("seed %d, step %d: key %d gives %d, want %d (%v)", seed, step, k, v, want, there)
				}
			}
		}
		if n := len(m.young) + len(m.old); n > size {
			t.Fatalf("seed %d, step %d: %d entries, more than %d", seed, step, n, size)
		}
	}
}
