package sim

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// seed is where all that is random comes from. Each part of the simulation has a generator of its own, so that one that
// draws once more does not change what the others draw.
type seed uint64

func (s seed) rand(part string, n ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, part, n)
	return rand.New(rand.NewPCG(uint64(s), h.Sum64()))
}

// lots draws for many goroutines, by what is drawn for: the n-th draw for a thing is the same whoever draws for other
// things in between. Scheduling, which the seed doesn't rule, so changes little.
type lots struct {
	base uint64

	mu    sync.Mutex // guards drawn
	drawn map[string]uint64
}

func (s seed) lots(part string, n ...any) *lots {
	return &lots{base: s.rand(part, n...).Uint64(), drawn: map[string]uint64{}}
}

// draw gives the generator for the next draws for a thing.
func (l *lots) draw(thing string) *rand.Rand {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drawn[thing]++
	h := fnv.New64a()
	_, _ = h.Write([]byte(thing)) // never fails
	return rand.New(rand.NewPCG(l.base^h.Sum64(), l.drawn[thing]))
}

func (l *lots) chance(thing string, p float64) bool { return p > 0 && l.draw(thing).Float64() < p }

func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.Int64N(int64(hi-lo)))
}

// entropy stands in for crypto/rand's Reader, which raft draws its election time-outs from. What it gives depends on
// the bubble's time.
type entropy struct{ lots *lots }

// Entropy gives a reader whose bytes follow from a seed.
func Entropy(n uint64) io.Reader { return entropy{seed(n).lots("entropy")} }

func (e entropy) Read(p []byte) (int, error) {
	r := e.lots.draw(time.Now().String())
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}
