package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"keelson/internal/apply"
)

// A wait that lasts too long ends once, with the context that the loop holds; a result that comes later goes nowhere.
func TestWaitersExpire(t *testing.T) {
	start := time.Unix(1000, 0)
	w := &waiters{ids: newRequestIDs(1, start)}
	late := w.register(t.Context(), start)
	w.expire(start, time.Second)
	young := w.register(t.Context(), start)
	w.expire(start.Add(time.Second), time.Second)
	if r := <-late.ch; !errors.Is(r.Err, context.DeadlineExceeded) || !errors.Is(late.Err(), context.DeadlineExceeded) {
		t.Errorf("the late one got %v, its context says %v", r.Err, late.Err())
	}
	w.deliver(late.id, apply.Result{})
	if len(late.ch) != 0 || w.wanted(late.id) {
		t.Error("somebody still waits for the late one")
	}
	if !w.wanted(young.id) || young.Err() != nil {
		t.Error("the young one's wait ended too")
	}
	w.deliver(young.id, apply.Result{Compacted: 7})
	if r := <-young.ch; r.Compacted != 7 {
		t.Errorf("the young one got %+v", r)
	}
}

// One that waits on while many more IDs than there are slots are drawn is found, and nobody who came after.
func TestWaitersExpireLapped(t *testing.T) {
	start := time.Unix(1000, 0)
	w := &waiters{ids: newRequestIDs(1, start)}
	stuck := w.register(t.Context(), start)
	w.expire(start, time.Second)
	for range 3 * waiterSlots {
		w.ids.Next()
	}
	w.expire(start.Add(100*time.Millisecond), time.Second)
	after := w.register(t.Context(), start)
	for i := range 9 {
		if !w.wanted(stuck.id) {
			t.Fatalf("the wait ended at step %d", i)
		}
		w.expire(start.Add(time.Duration(i+2)*100*time.Millisecond), time.Second)
	}
	if w.wanted(stuck.id) || len(stuck.ch) != 1 {
		t.Error("the wait goes on")
	}
	w.expire(start.Add(1100*time.Millisecond), time.Second)
	if !w.wanted(after.id) {
		t.Error("the wait of a later one ended")
	}
}

// The caller's end is the wait's end.
func TestWaiterContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &waiters{ids: newRequestIDs(1, time.Unix(1000, 0))}
	p := w.register(ctx, time.Unix(1000, 0))
	cancel()
	if !errors.Is(p.Err(), context.Canceled) {
		t.Errorf("%v", p.Err())
	}
}
