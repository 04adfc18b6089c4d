package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"keelson/internal/apply"
)

// waiterSlots bounds the proposals that wait for their result at a time. A client's unary call is one of them: 64 Ki
// calls of 2 KiB each are 128 MiB of requests in flight, past which ErrTooManyRequests is kinder than swapping.
const waiterSlots = 1 << 16

// waiters finds who waits for a request's result: the ID's low bits pick a slot, the whole ID must be equal, so that
// an entry of an earlier life answers nobody.
type waiters struct {
	ids      *requestIDs
	slots    [waiterSlots]atomic.Pointer[waiter]
	channels sync.Pool // of chan apply.Result, empty, with room for one
	// drawn and passed belong to who calls expire: how many IDs there were at times past, oldest first, and the last one
	// whose wait is over.
	drawn  []drawn
	passed uint64
}

// drawn says that IDs up to last were drawn at a moment.
type drawn struct {
	at   time.Time
	last uint64
}

// waiter is one who waits: the result is sent at most once. It is also the context of the proposal, so that the loop
// drops what nobody waits for any more before it is handed to raft.
type waiter struct {
	context.Context // the caller's
	id              uint64
	began           time.Time
	over            atomic.Bool // the wait has lasted too long
	ch              chan apply.Result
}

// Err tells why nobody waits any more.
func (w *waiter) Err() error {
	if w.over.Load() {
		return context.DeadlineExceeded
	}
	return w.Context.Err()
}

// register draws an ID whose slot is free. nil: all are taken.
func (w *waiters) register(ctx context.Context, now time.Time) *waiter {
	p := &waiter{Context: ctx, began: now}
	if ch, ok := w.channels.Get().(chan apply.Result); ok {
		p.ch = ch
	} else {
		p.ch = make(chan apply.Result, 1)
	}
	for range waiterSlots {
		p.id = w.ids.Next()
		if w.slot(p.id).CompareAndSwap(nil, p) {
			return p
		}
	}
	return nil
}

// recycle takes back the channel of a waiter whose one result was received.
func (w *waiters) recycle(ch chan apply.Result) { w.channels.Put(ch) }

// expire ends the waits that have lasted for a timeout, to which calls at their interval are precise. IDs ascend, so these
// are the waits for all that were drawn by a moment a timeout ago: each ID is looked at once, whether anybody waits or not.
// (Who draws an ID and takes a timeout to enter its slot would be missed; its caller's own deadline still counts.)
func (w *waiters) expire(now time.Time, timeout time.Duration) {
	w.drawn = append(w.drawn, drawn{now, w.ids.next.Load()})
	over := w.passed
	for now.Sub(w.drawn[0].at) >= timeout {
		over, w.drawn = w.drawn[0].last, w.drawn[1:]
	}
	from := w.passed + 1
	if over-w.passed > waiterSlots {
		from = over - waiterSlots + 1 // a slot that is still taken was never given to a later ID
	}
	for n := from; n <= over; n++ {
		s := w.slot(n)
		// Shifted, the difference is that of the suffixes alone, with its sign.
		if p := s.Load(); p != nil && int64((p.id-n)<<(64-idSuffixBits)) <= 0 && s.CompareAndSwap(p, nil) {
			p.over.Store(true)
			p.ch <- apply.Result{Err: context.DeadlineExceeded}
		}
	}
	w.passed = over
}

// wanted tells whether somebody waits for the request with that ID.
func (w *waiters) wanted(id uint64) bool {
	p := w.slot(id).Load()
	return p != nil && p.id == id
}

// deliver hands a result to who waits for it, if anybody does.
func (w *waiters) deliver(id uint64, r apply.Result) {
	s := w.slot(id)
	if p := s.Load(); p != nil && p.id == id && s.CompareAndSwap(p, nil) {
		p.ch <- r
	}
}

// forget ends the wait of p, whether or not its result came.
func (w *waiters) forget(p *waiter) { w.slot(p.id).CompareAndSwap(p, nil) }

func (w *waiters) slot(id uint64) *atomic.Pointer[waiter] { return &w.slots[id%waiterSlots] }
