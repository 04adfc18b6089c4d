package server

import (
	"sync/atomic"
	"time"
)

// requestIDs makes IDs that no other member and no earlier life of this one makes: the member's low 16 bits, then 40
// bits of the start's time in milliseconds and an 8-bit counter, counted on as one 48-bit number. An earlier life
// would have had to make 256 IDs in each millisecond of its whole time to reach into this one's.
type requestIDs struct {
	prefix uint64
	next   atomic.Uint64
}

const (
	idCounterBits = 8
	idSuffixBits  = 48
)

func newRequestIDs(member uint64, start time.Time) *requestIDs {
	g := &requestIDs{prefix: member << idSuffixBits}
	ms := uint64(start.UnixMilli())
	g.next.Store(ms << idCounterBits)
	return g
}

// Next gives an ID, never 0.
func (g *requestIDs) Next() uint64 {
	for {
		suffix := g.next.Add(1) & (1<<idSuffixBits - 1)
		if id := g.prefix | suffix; id != 0 {
			return id
		}
	}
}
