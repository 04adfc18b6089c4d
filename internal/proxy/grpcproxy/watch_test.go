package grpcproxy

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// follow reads what comes on ch until it has n events, and tells of any that is missing, double or out of order.
func follow(ch clientv3.WatchChan, n int, from int64) error {
	next := from
	timeout := time.After(patience)
	for n > 0 {
		select {
		case wr, ok := <-ch:
			if !ok {
				return fmt.Errorf("the channel is closed with %d events to come", n)
			}
			if err := wr.Err(); err != nil {
				return err
			}
			for _, e := range wr.Events {
				if e.Kv.ModRevision != next {
					return fmt.Errorf("revision %d instead of %d", e.Kv.ModRevision, next)
				}
				next++
				n--
			}
		case <-timeout:
			return fmt.Errorf("%d events are missing, from %d on", n, next)
		}
	}
	return nil
}

// Many watchers of one prefix are one at the member, and see the same.
func TestWatchersShare(t *testing.T) {
	f := serve(t)
	const watchers, puts = 200, 50
	ended := make(chan error, watchers)
	first := f.put("k/", "0") + 1
	for i := range watchers {
		ctx := clientv3.WithRequireLeader(t.Context())
		if i%2 == 0 {
			ctx = t.Context()
		}
		ch := f.proxy.Watch(ctx, "k/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		if wr := <-ch; !wr.Created || wr.Header.Revision != first-1 {
			t.Fatal(wr)
		}
		go func() { ended <- follow(ch, puts, first) }()
	}
	for i := range puts {
		f.put(fmt.Sprint("k/", i), "x")
	}
	for range watchers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	// One with and one without the demand for a leader.
	if n := f.watchers.Load(); n != 2 {
		t.Errorf("%d watchers at the member", n)
	}
}

// A watcher that starts in the past gets the past from the group's memory or from the member, then the present with the others.
func TestLateWatchers(t *testing.T) {
	f := serve(t)
	early := f.proxy.Watch(t.Context(), "k", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	first := (<-early).Header.Revision + 1
	for range 20 {
		f.put("k", "x")
	}
	if err := follow(early, 20, first); err != nil {
		t.Fatal(err)
	}
	inRing := f.proxy.Watch(t.Context(), "k", clientv3.WithPrefix(), clientv3.WithRev(first+5))
	if err := follow(inRing, 15, first+5); err != nil {
		t.Fatal(err)
	}
	if n := f.watchers.Load(); n != 1 {
		t.Errorf("%d watchers at the member", n)
	}
	f.put("other", "x")
	if _, err := f.direct.Delete(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	older := f.proxy.Watch(t.Context(), "k", clientv3.WithPrefix(), clientv3.WithRev(first-1))
	if err := follow(older, 20, first); err != nil {
		t.Fatal(err)
	}
	now := f.put("k", "y")
	for _, ch := range []clientv3.WatchChan{early, inRing, older} {
		if err := follow(ch, 1, now); err != nil {
			t.Error(err)
		}
	}
	f.put("k", "z")
	if err := follow(older, 1, now+1); err != nil {
		t.Error(err)
	}
	deadline := time.After(patience)
	for tick := time.Tick(10 * time.Millisecond); f.watchers.Load() != 1; {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("%d watchers at the member", f.watchers.Load())
		}
	}
}

// A watcher's end is the end of the group's watcher when it was the last.
func TestWatchersEnd(t *testing.T) {
	f := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	<-f.proxy.Watch(ctx, "k", clientv3.WithCreatedNotify())
	cancel()
	deadline := time.After(patience)
	for tick := time.Tick(10 * time.Millisecond); f.watchers.Load() != 0; {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("%d watchers at the member", f.watchers.Load())
		}
	}
}
