package server

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/state/watch"
)

// client does one of each thing that clients do, again and again until ctx ends. An error is the member's end.
func client(ctx context.Context, m *Member, name string, acked *atomic.Int64) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Appendf(nil, "%s/%d", name, i%7)
		r, err := m.Put(ctx, &pb.PutRequest{Key: key, Value: []byte("v")})
		if err != nil {
			continue
		}
		acked.Add(1)
		switch i % 8 {
		case 0:
			_, _ = m.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Limit: 3})
		case 1:
			_, _ = m.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key}}}}})
		case 2:
			if l, err := m.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 1}); err == nil {
				_, _ = m.Put(ctx, &pb.PutRequest{Key: key, Lease: l.ID})
				_, _ = m.LeaseRenew(ctx, l.ID)
			}
		case 3:
			_, _ = m.Compact(ctx, &pb.CompactionRequest{Revision: r.Header.Revision - 5, Physical: i%16 == 3})
		case 4:
			_, _ = m.HashKV(ctx, &pb.HashKVRequest{})
			_, _ = m.Status(ctx, &pb.StatusRequest{})
		case 5:
			_, _ = m.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key})
		}
	}
}

// watcher reads events until the hub closes.
func watcher(ctx context.Context, m *Member) {
	s := m.Watch().NewStream(m.Header)
	defer s.Close()
	if _, err := s.Watch(watch.WatchRequest{Key: []byte{0}, End: []byte{0}, Progress: true}); err != nil {
		return
	}
	for {
		if _, err := s.Next(ctx); err != nil {
			return
		}
	}
}

// TestStopUnderLoad stops and kills a member again and again while clients of all kinds are at work. Every stop ends,
// every call of a client ends, and no goroutine stays.
func TestStopUnderLoad(t *testing.T) {
	dir := t.TempDir()
	before := runtime.NumGoroutine()
	for life := range 4 {
		m := start(t, testConfig(t, dir, "--snapshot-count", "50"))
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		var acked atomic.Int64
		for c := range 6 {
			clients.Go(func() { client(ctx, m, fmt.Sprint(c), &acked) })
			clients.Go(func() { watcher(ctx, m) })
		}
		for acked.Load() < 100 {
			runtime.Gosched()
		}
		if life%2 == 0 {
			stop(t, m)
		} else {
			m.Kill()
		}
		cancel()
		clients.Wait()
	}
	deadline := time.After(patience)
	for runtime.NumGoroutine() > before {
		select {
		case <-deadline:
			var b bytes.Buffer
			b.Grow(1 << 20)
			all := b.Bytes()[:1<<20]
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), all[:runtime.Stack(all, true)])
		default:
			runtime.Gosched()
		}
	}
}
