package raftloop

import (
	"context"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// receivedBytesMax bounds the messages from peers that wait for the loop: 64 MiB is 64 of the largest
// MsgApp, more than a pass of the loop leaves waiting. Behind it Step waits, and so does the peer's stream.
const receivedBytesMax = 64 << 20

// messageOverhead is what a message counts beside its entries, so that many small ones are bounded too.
const messageOverhead = 256

// budget bounds bytes that wait. It is guarded by the inbox's mutex.
type budget struct {
	used, max int64
	room      chan struct{} // closed when bytes leave; nil while nobody waits
}

// take reserves n bytes, or gives the channel to wait on. One item of any size fits an empty budget.
func (b *budget) take(n int64) <-chan struct{} {
	if b.used == 0 || b.used+n <= b.max {
		b.used += n
		return nil
	}
	if b.room == nil {
		b.room = make(chan struct{})
	}
	return b.room
}

func (b *budget) give(n int64) {
	b.used -= n
	if b.room != nil && n > 0 {
		close(b.room)
		b.room = nil
	}
}

// work is what one pass of the loop takes out of the inbox.
type work struct {
	proposals []proposal
	received  []*raftpb.Message
	local     []*raftpb.Message // responses of the append and apply threads, in each thread's order
	calls     []func()
	ticks     int
	bytes     int64 // of received
}

// inbox is where every other goroutine leaves work for the loop. Its mutex is held for a few instructions
// at a time, and only the first to arrive after a pass pays for the wake-up.
type inbox struct {
	wake chan struct{} // holds one token while work waits

	mu       sync.Mutex // guards all below
	waits    work
	signaled bool
	reads    *round // the round that readers join now; nil if there is none
	waiting  budget // proposals queued, until they are handed to raft
	network  budget // received messages
}

func newInbox(waitingMax int64) *inbox {
	return &inbox{
		wake:    make(chan struct{}, 1),
		waiting: budget{max: waitingMax},
		network: budget{max: receivedBytesMax},
	}
}

// signal makes the loop run a pass; mu is held.
func (b *inbox) signal() {
	if !b.signaled {
		b.signaled = true
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// take swaps what waits with the emptied w of the last pass.
func (b *inbox) take(w *work) {
	clear(w.proposals)
	clear(w.received)
	clear(w.local)
	clear(w.calls)
	spare := work{proposals: w.proposals[:0], received: w.received[:0], local: w.local[:0], calls: w.calls[:0]}
	b.mu.Lock()
	*w, b.waits = b.waits, spare
	b.signaled = false
	b.network.give(w.bytes)
	b.mu.Unlock()
}

// takeReads gives the round that readers have joined, and closes it to more.
func (b *inbox) takeReads() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.reads
	b.reads = nil
	return r
}

// read joins the waiting round.
func (b *inbox) read() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reads == nil {
		b.reads = &round{done: make(chan struct{})}
		b.signal()
	}
	return b.reads
}

func (b *inbox) propose(ctx context.Context, p proposal, quit <-chan struct{}) error {
	return b.admit(ctx, &b.waiting, p.size, quit, func() { b.waits.proposals = append(b.waits.proposals, p) })
}

// offer queues p if it fits and the loop runs.
func (b *inbox) offer(p proposal, quit <-chan struct{}) bool {
	select {
	case <-quit:
		return false
	default:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting.take(p.size) != nil {
		return false
	}
	b.waits.proposals = append(b.waits.proposals, p)
	b.signal()
	return true
}

func (b *inbox) receive(ctx context.Context, m *raftpb.Message, quit <-chan struct{}) error {
	n := int64(messageOverhead)
	for _, e := range m.GetEntries() {
		n += int64(entrySize(e))
	}
	return b.admit(ctx, &b.network, n, quit, func() {
		b.waits.received = append(b.waits.received, m)
		b.waits.bytes += n
	})
}

// admit runs add under mu once n bytes fit into the budget.
func (b *inbox) admit(ctx context.Context, in *budget, n int64, quit <-chan struct{}, add func()) error {
	for {
		select {
		case <-quit:
			return ErrStopped
		default:
		}
		b.mu.Lock()
		room := in.take(n)
		if room == nil {
			add()
			b.signal()
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-quit:
			return ErrStopped
		}
	}
}

// charge counts n bytes as waiting proposals, and tells whether they fit.
func (b *inbox) charge(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting.take(n) == nil
}

// handed tells that proposals of n bytes left the queue.
func (b *inbox) handed(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.waiting.give(n)
	b.mu.Unlock()
}

func (b *inbox) respond(ms []*raftpb.Message) {
	b.mu.Lock()
	b.waits.local = append(b.waits.local, ms...)
	b.signal()
	b.mu.Unlock()
}

func (b *inbox) call(f func()) {
	b.mu.Lock()
	b.waits.calls = append(b.waits.calls, f)
	b.signal()
	b.mu.Unlock()
}

func (b *inbox) tick() {
	b.mu.Lock()
	b.waits.ticks++
	b.signal()
	b.mu.Unlock()
}
