package sim

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
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

// dice is a generator that many goroutines share.
type dice struct {
	mu sync.Mutex // guards r
	r  *rand.Rand
}

func (d *dice) chance(p float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return p > 0 && d.r.Float64() < p
}

// between gives a duration from lo on and below hi.
func (d *dice) between(lo, hi time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return between(d.r, lo, hi)
}

func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.Int64N(int64(hi-lo)))
}

// entropy stands in for crypto/rand's Reader, which raft draws its election time-outs from.
type entropy struct {
	mu sync.Mutex // guards r
	r  *rand.Rand
}

// Entropy gives a reader whose bytes follow from a seed.
func Entropy(n uint64) interface{ Read([]byte) (int, error) } {
	return &entropy{r: seed(n).rand("entropy")}
}

func (e *entropy) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var word [8]byte
	for done := 0; done < len(p); {
		binary.LittleEndian.PutUint64(word[:], e.r.Uint64())
		done += copy(p[done:], word[:])
	}
	return len(p), nil
}
