package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The garbage collector's own rule lets garbage grow to the size of what is alive. A member with few keys would collect
// twenty times a second under load (a put leaves about 6 KiB, most of it grpc's), and one with a heap of 200 MiB would
// keep 200 MiB of garbage. Instead there may be garbageShare of what is alive, but at least garbageBytesMin: half a
// second of 15,000 puts a second.
const (
	garbageBytesMin = 64 << 20
	garbageShare    = 50 // percent
)

// liveHeap is what was alive at the end of the last collection.
const liveHeap = "/gc/heap/live:bytes"

// pacer sets the collector's target anew after each collection, from a finalizer: nothing else is told of one.
type pacer struct {
	percent int // in force
	sample  []metrics.Sample
}

// cycle is garbage from the start: each collection finalizes it and makes the next one.
type cycle struct {
	pacer *pacer
	_     [16]byte // so that it is not put into a block with others
}

// paceCollector keeps the bounds above for as long as the program runs, unless the user set GOGC or GOMEMLIMIT.
func paceCollector() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	p := &pacer{percent: 100, sample: []metrics.Sample{{Name: liveHeap}}}
	p.pace()
	p.arm()
}

func (p *pacer) arm() {
	runtime.SetFinalizer(&cycle{pacer: p}, func(c *cycle) {
		c.pacer.pace()
		c.pacer.arm()
	})
}

func (p *pacer) pace() {
	metrics.Read(p.sample)
	next := percentFor(p.sample[0].Value.Uint64())
	// Setting it stops the world for some microseconds: not for a change that hardly matters.
	if d := next - p.percent; d*10 > p.percent || -d*10 > p.percent {
		debug.SetGCPercent(next)
		p.percent = next
	}
}

// percentFor gives the garbage allowed, in percent of the live bytes as GOGC counts. A heap of less than 4 MiB, such as
// at the start, counts as 4 MiB, as it does for the collector itself.
func percentFor(live uint64) int {
	const heapMin = 4 << 20
	live = max(live, heapMin)
	return max(garbageShare, int(garbageBytesMin*100/live))
}
