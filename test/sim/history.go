package sim

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// The kinds of requests that are recorded.
const (
	opPut    = "put"
	opDelete = "delete"
	opSwap   = "swap" // a transaction: put if the key has the expected value, else get
	opGet    = "get"
)

// op is one request and what became of it. A request about several keys is several ops of equal times.
type op struct {
	client int
	kind   string
	key    string
	value  string // put
	expect string // swap: the value that must be there, "" for none
	serial bool   // get: from the member's own view

	// call and end are places in the order of all invocations and returns.
	call, end int64
	at        time.Duration // since the beginning, at the call
	// known tells that an answer came; without one a write may have been made, now or later, or not.
	known bool
	// What was answered: the header's revision; whether a swap found its value; a delete's count.
	rev     int64
	done    bool
	deleted int64
	reading
}

// reading is what a get, or a swap that didn't find its value, saw.
type reading struct {
	found bool
	got   string
	mod   int64 // mod_revision
}

func (o *op) String() string {
	s := fmt.Sprintf("c%d %s %s", o.client, o.kind, o.key)
	switch o.kind {
	case opPut:
		s += "=" + o.value
	case opSwap:
		s += fmt.Sprintf("=%s if %q", o.value, o.expect)
	}
	if o.serial {
		s += " (serializable)"
	}
	if !o.known {
		return s + " -> ?"
	}
	switch {
	case o.kind == opDelete:
		s += fmt.Sprintf(" -> %d deleted", o.deleted)
	case o.kind == opGet, o.kind == opSwap && !o.done:
		s += fmt.Sprintf(" -> %q mod %d", o.got, o.mod)
	}
	return fmt.Sprintf("%s at revision %d [%d,%d]", s, o.rev, o.call, o.end)
}

// record is all requests of a run.
type record struct {
	turn atomic.Int64
	mu   sync.Mutex // guards ops
	ops  []*op
}

// tick gives the next place in the order of invocations and returns.
func (r *record) tick() int64 { return r.turn.Add(1) }

func (r *record) add(ops ...*op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, ops...)
}

// event is one change of one key.
type event struct {
	rev   int64
	key   string
	value string
	del   bool
}

func (e event) String() string {
	if e.del {
		return fmt.Sprintf("%d delete %s", e.rev, e.key)
	}
	return fmt.Sprintf("%d put %s=%s", e.rev, e.key, e.value)
}
