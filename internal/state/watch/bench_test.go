package watch

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
	"keelson/internal/storage/schema"
)

func noHeader() wire.Header { return wire.Header{} }

// change is a put of 256 bytes to one of 16 keys.
func change(rev int64) []mvcc.Change {
	key := fmt.Appendf(nil, "watched/key-%04d", rev%16)
	kv := wire.AppendKeyValue(nil, wire.KeyValue{Key: key, Create: rev, Mod: rev, Version: 1, Value: bytes.Repeat([]byte{'v'}, 256)})
	return []mvcc.Change{{Rev: schema.Revision{Main: rev}, Key: key, KV: kv}}
}

// drain takes and encodes answers, as an edge does.
func drain(s *Stream, events *tally) {
	for {
		r, err := s.Next(context.Background())
		if err != nil {
			return
		}
		_ = r.AppendTo(make([]byte, 0, r.Size()))
		events.add(int64(len(r.Events)))
	}
}

// tally counts events and lets one goroutine wait for a count.
type tally struct {
	n, goal atomic.Int64
	reached chan struct{}
}

func (t *tally) add(n int64) {
	if now, goal := t.n.Add(n), t.goal.Load(); now >= goal && now-n < goal {
		t.reached <- struct{}{}
	}
}

// wait sets the goal before it looks, so a crossing between the two is seen by it or by add.
func (t *tally) wait(goal int64) {
	for t.goal.Store(goal); t.n.Load() < goal; {
		<-t.reached
	}
}

// BenchmarkFanOut has 1,024 watchers on 16 keys over 64 streams; 64 puts are published at a time, as group
// commit does. An operation is one put: 64 events.
func BenchmarkFanOut(b *testing.B) {
	const watchers, streams, published = 1024, 64, 64
	h := New(Options{}, newPast())
	defer h.Close()
	events := tally{reached: make(chan struct{}, 1<<20)}
	for i := range streams {
		s := h.NewStream(noHeader)
		go drain(s, &events)
		for j := range watchers / streams {
			if _, err := s.Watch(WatchRequest{Key: fmt.Appendf(nil, "watched/key-%04d", (i+j)%16)}); err != nil {
				b.Fatal(err)
			}
		}
	}
	rev := int64(1)
	for b.Loop() {
		rev++
		h.Append(change(rev))
		h.SetDurable(rev)
		if rev%published == 0 {
			h.Publish(rev)
			events.wait((rev - 1 - 20*published) * watchers / 16) // both sides are measured
		}
	}
	h.Publish(rev)
	events.wait((rev - 1) * watchers / 16)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events.n.Load()), "ns/event")
}

// BenchmarkIdle reports the heap of 10,000 watchers on 100 streams.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		h := New(Options{}, newPast())
		events := tally{reached: make(chan struct{}, 1<<20)}
		for i := range 100 {
			s := h.NewStream(noHeader)
			go drain(s, &events)
			for j := range 100 {
				key := fmt.Appendf(nil, "/registry/things/%d/%d/", i, j)
				if _, err := s.Watch(WatchRequest{Key: key, End: append(key[:len(key)-1:len(key)-1], '0')}); err != nil {
					b.Fatal(err)
				}
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/(1<<20), "MiB")
		h.Close()
	}
}

// endless is a History of 500,000 revisions, all of one key.
type endless struct{ kv []byte }

func (endless) Values([]schema.Revision) ([][]byte, error) { return nil, nil }

func (e endless) Scan(from, to schema.Revision, f func(schema.Revision, bool, []byte) bool) error {
	for rev := from.Main; rev < to.Main && f(schema.Revision{Main: rev}, false, e.kv); rev++ {
	}
	return nil
}

// BenchmarkAppend appends and publishes, while nobody watches, while a thousand watchers have nothing to
// read, and while a watcher reads 500,000 revisions of history again and again.
func BenchmarkAppend(b *testing.B) {
	const behind = 500_000
	for _, who := range []string{"nobody", "idle", "behind"} {
		b.Run(who, func(b *testing.B) {
			h := New(Options{}, endless{kv: change(1)[0].KV})
			defer h.Close()
			h.Reset(behind, 0)
			events := tally{reached: make(chan struct{}, 1<<20)}
			s := h.NewStream(noHeader)
			go drain(s, &events)
			switch who {
			case "idle":
				for i := range 1000 {
					_, _ = s.Watch(WatchRequest{Key: fmt.Appendf(nil, "other-%d", i)})
				}
			case "behind":
				_, _ = s.Watch(WatchRequest{Key: []byte("watched/key-0001"), StartRev: 1})
			}
			rev, longest := int64(behind), time.Duration(0)
			changes := change(1)
			for b.Loop() {
				rev++
				changes[0].Rev.Main = rev
				start := time.Now()
				h.Append(changes)
				h.Publish(rev)
				longest = max(longest, time.Since(start))
				h.SetDurable(rev)
			}
			b.ReportMetric(float64(longest.Microseconds()), "us-longest")
		})
	}
}
