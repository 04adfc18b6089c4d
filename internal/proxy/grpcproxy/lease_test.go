package grpcproxy

import (
	"context"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The leases of many clients are kept alive over one stream, and each answer is the member's.
func TestKeepAlivesShareAStream(t *testing.T) {
	f := serve(t)
	var all sync.WaitGroup
	for range 20 {
		c := dial(t, f.addr)
		for range 20 {
			l, err := c.Grant(t.Context(), 60)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				ch, err := c.KeepAlive(t.Context(), l.ID)
				if err != nil {
					t.Error(err)
					return
				}
				if r := <-ch; r == nil || r.TTL != 60 || r.ID != l.ID {
					t.Error(r)
				}
			})
		}
	}
	all.Wait()
	if n := f.keepAlives.Load(); n != 1 {
		t.Errorf("%d streams at the member", n)
	}
}

// A lease that is not there has a time to live of zero, for each who asks.
func TestKeepAliveOfNoLease(t *testing.T) {
	f := serve(t)
	l := pb.NewLeaseClient(f.proxy.ActiveConnection())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := l.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const asked = 3 * keepAlivesMax
	go func() {
		for range asked {
			if err := s.Send(&pb.LeaseKeepAliveRequest{ID: 7}); err != nil {
				t.Error(err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
	}()
	for range asked {
		if r, err := s.Recv(); err != nil || r.TTL != 0 || r.ID != 7 {
			t.Fatal(r, err)
		}
	}
	if r, err := s.Recv(); err == nil {
		t.Error("one answer too many", r)
	}
}

// Clients that go while no member answers leave nothing behind.
func TestKeepAlivesAreForgotten(t *testing.T) {
	f := serve(t)
	k := newKeeper(f.lease, caller{})
	a := &keepAlives{answers: make(chan answer, keepAlivesMax)}
	b := &keepAlives{answers: make(chan answer, keepAlivesMax)}
	k.ask(1, a)
	k.ask(2, a)
	k.ask(2, b)
	k.take()
	k.ask(2, b)
	k.ask(3, a)
	k.forget(a)
	if k.ask(4, a) {
		t.Error("one that is gone may ask")
	}
	k.again()
	if ids := k.take(); len(k.turns) != 2 || len(ids) != 2 {
		t.Error(k.turns, ids)
	}
	k.answer(&pb.LeaseKeepAliveResponse{ID: 1})
	k.answer(&pb.LeaseKeepAliveResponse{ID: 2})
	if len(k.turns) != 0 || len(b.answers) != 2 || len(a.answers) != 0 {
		t.Error(k.turns, len(a.answers), len(b.answers))
	}
}

func TestLeaseCalls(t *testing.T) {
	f := serve(t)
	inside := NewLease(t.Context(), f.direct, LeaseOptions{Namespace: "ns/"})
	defer inside.Close()
	g, err := inside.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"ns/a", "b"} {
		if _, err := f.direct.Put(t.Context(), k, "x", clientv3.WithLease(clientv3.LeaseID(g.ID))); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := inside.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: g.ID, Keys: true}); err != nil || len(r.Keys) != 1 || string(r.Keys[0]) != "a" {
		t.Error(r, err)
	}
	if r, err := f.proxy.TimeToLive(t.Context(), clientv3.LeaseID(g.ID), clientv3.WithAttachedKeys()); err != nil || len(r.Keys) != 2 {
		t.Error(r, err)
	}
	if r, err := f.proxy.Leases(t.Context()); err != nil || len(r.Leases) != 1 {
		t.Error(r, err)
	}
	if _, err := f.proxy.Revoke(t.Context(), clientv3.LeaseID(g.ID)); err != nil {
		t.Error(err)
	}
}
