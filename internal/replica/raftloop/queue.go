package raftloop

import "sync"

// queue is what the loop hands to one of its threads: unbounded, since raft bounds what it lets be outstanding.
// Pushing never waits; the thread takes all there is at once.
type queue[T any] struct {
	wake chan struct{} // holds one token while there may be something

	mu    sync.Mutex // guards items
	items []T
}

func newQueue[T any]() queue[T] { return queue[T]{wake: make(chan struct{}, 1)} }

func (q *queue[T]) push(it T) {
	q.mu.Lock()
	q.items = append(q.items, it)
	first := len(q.items) == 1
	q.mu.Unlock()
	if first {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// run hands all that is queued to work, again and again, until quit is closed or work fails, which it gives. The
// items are work's only during the call.
func (q *queue[T]) run(quit <-chan struct{}, work func([]T) error) error {
	var items []T
	for {
		select {
		case <-quit:
			return nil
		case <-q.wake:
		}
		clear(items)
		q.mu.Lock()
		items, q.items = q.items, items[:0]
		q.mu.Unlock()
		if err := work(items); err != nil {
			return err
		}
	}
}
