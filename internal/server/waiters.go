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

// expire ends the waits that began before a moment.
func (w *waiters) expire(before time.Time) {
	for i := range w.slots {
		s := &w.slots[i]
		if p := s.Load(); p != nil && p.began.Before(before) && s.CompareAndSwap(p, nil) {
			p.over.Store(true)
			p.ch <- apply.Result{Err: context.DeadlineExceeded}
		}
	}
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
