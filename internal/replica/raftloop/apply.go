package raftloop

import (
	"context"
	"sort"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
)

// applyEntriesMax bounds one call of Machine.Apply, so that what is applied is published and answered
// while a long tail is still being worked off: 4,096 entries are about ten milliseconds.
const applyEntriesMax = 4096

// applyItem is a MsgStorageApply, or a snapshot to install.
type applyItem struct {
	msg     *raftpb.Message
	install *raftpb.Snapshot
	done    chan error // of the install; holds one
}

// applier is the apply thread: it runs the Machine on everything that is queued, then answers raft. The
// loop starts and joins it.
type applier struct {
	machine Machine
	in      *inbox
	life    *life
	change  func(*raftpb.ConfChange) *raftpb.ConfState
	skip    uint64 // entries up to here were in the store at start
	applied atomic.Uint64
	waits   appliedWaits
	done    chan struct{}
	queue   queue[applyItem]
}

// installed runs Machine.Install behind all that is queued; called by the append thread.
func (a *applier) installed(s *raftpb.Snapshot) error {
	it := applyItem{install: s, done: make(chan error, 1)}
	a.queue.push(it)
	select {
	case err := <-it.done:
		return err
	case <-a.life.quit:
		return ErrStopped
	}
}

func (a *applier) run() {
	defer close(a.done)
	if err := a.queue.run(a.life.quit, a.work); err != nil {
		a.life.fail(err)
	}
}

// work takes the items in order; neighbouring applies share calls of the Machine.
func (a *applier) work(items []applyItem) error {
	for len(items) > 0 {
		if s := items[0].install; s != nil {
			err := a.machine.Install(s)
			if err == nil {
				a.advance(s.GetMetadata().GetIndex())
			}
			items[0].done <- err
			if err != nil {
				return err
			}
			items = items[1:]
			continue
		}
		n := 1
		for n < len(items) && items[n].install == nil {
			n++
		}
		if err := a.apply(items[:n]); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

func (a *applier) apply(items []applyItem) error {
	ents := items[0].msg.GetEntries()
	if len(items) > 1 {
		ents = ents[:len(ents):len(ents)]
		for _, it := range items[1:] {
			ents = append(ents, it.msg.GetEntries()...)
		}
	}
	for len(ents) > 0 {
		part := ents[:min(len(ents), applyEntriesMax)]
		ents = ents[len(part):]
		last := part[len(part)-1].GetIndex()
		if first := part[0].GetIndex(); first <= a.skip {
			part = part[min(uint64(len(part)), a.skip+1-first):]
		}
		if len(part) > 0 {
			if err := a.machine.Apply(part, a.change); err != nil {
				return err
			}
		}
		a.advance(last)
	}
	responses := make([]*raftpb.Message, 0, len(items))
	for _, it := range items {
		responses = append(responses, it.msg.GetResponses()...)
	}
	a.in.respond(responses)
	return nil
}

// advance publishes the applied index and wakes who waited for it.
func (a *applier) advance(index uint64) {
	if index > a.applied.Load() {
		a.applied.Store(index)
		a.waits.reached(index)
	}
}

// appliedWaits holds the readers that wait for an index: one channel an index, since the readers of one
// round share it.
type appliedWaits struct {
	mu    sync.Mutex // guards queue
	queue []appliedWait
}

type appliedWait struct {
	index uint64
	done  chan struct{}
}

// wait blocks until applied reaches index.
func (w *appliedWaits) wait(ctx context.Context, index uint64, applied *atomic.Uint64, quit <-chan struct{}) error {
	if applied.Load() >= index {
		return nil
	}
	w.mu.Lock()
	i := sort.Search(len(w.queue), func(i int) bool { return w.queue[i].index >= index })
	if i == len(w.queue) || w.queue[i].index != index {
		w.queue = append(w.queue, appliedWait{})
		copy(w.queue[i+1:], w.queue[i:])
		w.queue[i] = appliedWait{index, make(chan struct{})}
	}
	done := w.queue[i].done
	w.mu.Unlock()
	if applied.Load() >= index { // it may have passed before the queue had us
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-quit:
		return ErrStopped
	}
}

func (w *appliedWaits) reached(index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.queue) && w.queue[n].index <= index {
		close(w.queue[n].done)
		n++
	}
	if n > 0 {
		w.queue = append(w.queue[:0], w.queue[n:]...)
	}
}
