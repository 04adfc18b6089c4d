package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A member that nobody writes to would keep the garbage of its last busy hour: half of what is alive, and what the
// collector has not given back yet. It is given back once less than quietBytes were allocated in each of quietTicks
// looks in a row, if it is enough to be worth it: that costs one collection, 100 ms of one core for 250 MiB alive.
const (
	quietTick  = 500 * time.Millisecond
	quietTicks = 2
	quietBytes = 1 << 20 // some 150 puts
)

// quiet tells when to give memory back.
type quiet struct {
	allocated uint64 // in all, at the last look
	ticks     int    // in a row without much
}

// look takes what was allocated so far, and what of the heap is not alive. It is true once for each quiet time in which that is
// spare or more.
func (q *quiet) look(allocated, garbage, spare uint64) bool {
	if allocated-q.allocated >= quietBytes {
		q.ticks = 0
	} else if q.ticks <= quietTicks {
		q.ticks++
	}
	q.allocated = allocated
	return q.ticks == quietTicks && garbage >= spare
}

// releaseWhenQuiet looks for as long as the program runs, unless the user set GOGC or GOMEMLIMIT.
func releaseWhenQuiet(spare uint64) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	var q quiet
	m := []metrics.Sample{
		{Name: allocated}, {Name: liveHeap}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
	}
	for range time.Tick(quietTick) {
		metrics.Read(m)
		held := m[2].Value.Uint64() + m[3].Value.Uint64() + m[4].Value.Uint64()
		if q.look(m[0].Value.Uint64(), held-min(held, m[1].Value.Uint64()), spare) {
			debug.FreeOSMemory()
		}
	}
}
