package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// The garbage collector's own rule lets garbage grow to the size of what is alive. A member with few keys would collect
// twenty times a second under load (a put leaves about 6 KiB, most of it grpc's), and one with a heap of 200 MiB would
// keep 200 MiB of garbage. Instead there may be garbageShare of what is alive, but at least as much as is made in garbageTime,
// within the bounds of allowance.
const (
	garbageShare = 50 // percent
	garbageTime  = 500 * time.Millisecond
)

// allowance bounds the garbage that is there whatever is alive. What is released once nothing happens is at least spare.
type allowance struct{ least, most, spare uint64 }

// A member makes 64 MiB of garbage in half a second of 15,000 puts a second; its keys take more than that. What is no member
// keeps next to nothing: it would be garbage for the most part. A call through the gRPC proxy leaves 12 KiB and takes some 60 µs,
// a collection 5 ms: 1.5 µs a call at 40 MiB, where it would be 1 µs at 64 and 4 µs at 16.
var (
	memberHeap = allowance{least: 64 << 20, most: 64 << 20, spare: 32 << 20}
	proxyHeap  = allowance{least: 8 << 20, most: 40 << 20, spare: 8 << 20}
)

// loadingHeap is a member's while it reads its directory: nearly all that it makes then stays, and each collection would mark it
// again. Garbage there is some 120 bytes a revision.
var loadingHeap = allowance{least: 256 << 20, most: 256 << 20}

// heapOf gives the allowance of what a command line starts.
func heapOf(args []string) allowance {
	if len(args) > 1 {
		if _, ok := subcommands[args[1]]; ok {
			return proxyHeap
		}
	}
	return memberHeap
}

// liveHeap is what was alive at the end of the last collection, allocated what was made since the start.
const (
	liveHeap  = "/gc/heap/live:bytes"
	allocated = "/gc/heap/allocs:bytes"
)

// collector is paced: there is one in a process.
var collector pacer

// pacer sets the collector's target anew after each collection, from a finalizer: nothing else is told of one.
type pacer struct {
	mu sync.Mutex // protects all below
	allowance
	percent int // in force; 0: the collector is left alone
	sample  []metrics.Sample
	// at is when the last collection was, made what was allocated until then; none was yet at the zero time.
	at   time.Time
	made uint64
}

// cycle is garbage from the start: each collection finalizes it and makes the next one.
type cycle struct {
	pacer *pacer
	_     [16]byte // so that it is not put into a block with others
}

// start keeps the bounds above for as long as the program runs, unless the user set GOGC or GOMEMLIMIT.
func (p *pacer) start(a allowance) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	p.percent, p.sample = 100, []metrics.Sample{{Name: liveHeap}, {Name: allocated}}
	p.allow(a)
	p.arm()
}

// allow changes the bounds, and gives those of before.
func (p *pacer) allow(a allowance) (before allowance) {
	p.mu.Lock()
	before, p.allowance = p.allowance, a
	p.mu.Unlock()
	p.pace()
	return before
}

func (p *pacer) arm() {
	runtime.SetFinalizer(&cycle{pacer: p}, func(c *cycle) {
		c.pacer.pace()
		c.pacer.arm()
	})
}

func (p *pacer) pace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.percent == 0 {
		return
	}
	metrics.Read(p.sample)
	live, made, now := p.sample[0].Value.Uint64(), p.sample[1].Value.Uint64(), time.Now()
	next := percentFor(live, p.garbage(made-p.made, now.Sub(p.at)))
	p.made, p.at = made, now
	// Setting it stops the world for some microseconds: not for a change that hardly matters.
	if d := next - p.percent; d*10 > p.percent || -d*10 > p.percent {
		debug.SetGCPercent(next)
		p.percent = next
	}
}

// garbage gives what may be there where so much was made in some time.
func (a allowance) garbage(made uint64, took time.Duration) uint64 {
	rate := float64(made) / max(took.Seconds(), time.Millisecond.Seconds())
	return min(max(uint64(rate*garbageTime.Seconds()), a.least), a.most)
}

// percentFor gives the garbage allowed, in percent of the live bytes as GOGC counts. A heap of less than 4 MiB, such as
// at the start, counts as 4 MiB, as it does for the collector itself.
func percentFor(live, garbage uint64) int {
	const heapMin = 4 << 20
	live = max(live, heapMin)
	return max(garbageShare, int(garbage*100/live))
}
