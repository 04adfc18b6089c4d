package server

import (
	"sync/atomic"

	"keelson/internal/apply"
)

// waiterSlots bounds the proposals that wait for their result at a time. A client's unary call is one of them: 64 Ki
// calls of 2 KiB each are 128 MiB of requests in flight, past which ErrTooManyRequests is kinder than swapping.
const waiterSlots = 1 << 16

// waiters finds who waits for a request's result: the ID's low bits pick a slot, the whole ID must be equal, so that
// an entry of an earlier life answers nobody.
type waiters struct {
	ids   *requestIDs
	slots [waiterSlots]atomic.Pointer[waiter]
}

// waiter is one who waits: the result is sent at most once.
type waiter struct {
	id uint64
	ch chan apply.Result
}

// register draws an ID whose slot is free. nil: all are taken.
func (w *waiters) register() *waiter {
	p := &waiter{ch: make(chan apply.Result, 1)}
	for range waiterSlots {
		p.id = w.ids.Next()
		if w.slot(p.id).CompareAndSwap(nil, p) {
			return p
		}
	}
	return nil
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
