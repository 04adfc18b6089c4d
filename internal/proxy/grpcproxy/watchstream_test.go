package grpcproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// raw is a stream of watchers without a library around it.
type raw struct {
	t testing.TB
	pb.Watch_WatchClient
}

func (f *fixture) raw() raw {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*patience)
	f.t.Cleanup(cancel)
	s, err := pb.NewWatchClient(f.proxy.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(1<<30))
	if err != nil {
		f.t.Fatal(err)
	}
	return raw{f.t, s}
}

func (r raw) create(c *pb.WatchCreateRequest) *pb.WatchResponse {
	r.t.Helper()
	r.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}})
	return r.next()
}

func (r raw) send(q *pb.WatchRequest) {
	r.t.Helper()
	if err := r.Send(q); err != nil {
		r.t.Fatal(err)
	}
}

func (r raw) next() *pb.WatchResponse {
	r.t.Helper()
	resp, err := r.Recv()
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

func TestWatchNumbers(t *testing.T) {
	f := serve(t)
	f.put("k", "x")
	s := f.raw()
	for i, c := range []struct {
		request *pb.WatchCreateRequest
		id      int64
		why     string
	}{
		{&pb.WatchCreateRequest{Key: []byte("k")}, 0, ""},
		{&pb.WatchCreateRequest{Key: []byte("k"), WatchId: 1}, 1, ""},
		{&pb.WatchCreateRequest{Key: []byte("k")}, 2, ""},
		{&pb.WatchCreateRequest{Key: []byte("k"), WatchId: 2}, noWatcher, reasonDuplicate},
		{&pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("a")}, noWatcher, reasonEmpty},
		{&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: -1}, noWatcher, reasonNegative},
		{&pb.WatchCreateRequest{RangeEnd: []byte{0}}, 3, ""},
	} {
		r := s.create(c.request)
		if r.WatchId != c.id || !r.Created || r.CancelReason != c.why || r.Canceled != (c.why != "") || r.Header.Revision != 2 {
			t.Errorf("%d: %v", i, r)
		}
	}
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 1}}})
	if r := s.next(); r.WatchId != 1 || !r.Canceled || r.Created || r.CancelReason != "" {
		t.Error(r)
	}
	f.put("k", "y")
	got := map[int64]bool{}
	for range 3 {
		r := s.next()
		got[r.WatchId] = len(r.Events) == 1 && string(r.Events[0].Kv.Value) == "y"
	}
	if !got[0] || !got[2] || !got[3] {
		t.Error(got)
	}
}

// A request for progress is answered with a revision that all the stream's watchers have reached, whether or not somebody writes.
func TestWatchProgress(t *testing.T) {
	for name, write := range map[string]bool{"after a write": true, "without": false} {
		t.Run(name, func(t *testing.T) { progresses(t, write) })
	}
}

func progresses(t *testing.T, write bool) {
	t.Helper()
	f := serve(t)
	f.put("a", "old")
	rev := f.put("c", "x")
	s := f.raw()
	s.create(&pb.WatchCreateRequest{Key: []byte("a")})
	s.create(&pb.WatchCreateRequest{Key: []byte("b")})
	s.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: rev})
	if write {
		rev = f.put("c", "y")
	}
	// A member leaves a request out while one of its watchers is new, so it is asked until it tells.
	ctx, cancel := context.WithCancel(t.Context())
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		for tick := time.Tick(50 * time.Millisecond); ; {
			if s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}) != nil {
				return
			}
			select {
			case <-tick:
			case <-ctx.Done():
				return
			}
		}
	}()
	if r := s.next(); r.WatchId != noWatcher || r.Header.Revision != rev || len(r.Events) != 0 || r.Created || r.Canceled {
		t.Error(r)
	}
	cancel()
	<-asking
}

// A watcher that asked for fragments gets a revision that is large in parts that each fit.
func TestWatchFragments(t *testing.T) {
	f := serve(t)
	f.watch.fragment = 40_000
	s := f.raw()
	s.create(&pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), Fragment: true})
	var ops []clientv3.Op
	for i := range 100 {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("k%02d", i), strings.Repeat("x", 1000)))
	}
	if _, err := f.direct.Txn(t.Context()).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
	n, parts := 0, 0
	for more := true; more; parts++ {
		r := s.next()
		for _, e := range r.Events {
			if want := fmt.Sprintf("k%02d", n); string(e.Kv.Key) != want {
				t.Fatalf("%s instead of %s", e.Kv.Key, want)
			}
			n++
		}
		more = r.Fragment
	}
	if n != 100 || parts != 3 {
		t.Errorf("%d events in %d parts", n, parts)
	}
}

// A client that reads nothing costs no more than its bound, holds up nobody, and misses nothing once it reads.
func TestSlowClient(t *testing.T) {
	f := serve(t)
	slow := f.raw()
	first := slow.create(&pb.WatchCreateRequest{Key: []byte("k")}).Header.Revision + 1
	fast := f.proxy.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	<-fast
	const puts = 400
	value := strings.Repeat("x", 64<<10) // 25 MiB in all: more than queues, rings and connections hold
	for range puts {
		f.put("k", value)
	}
	if err := follow(fast, puts, first); err != nil {
		t.Error(err)
	}
	for next := first; next < first+puts; {
		for _, e := range slow.next().Events {
			if e.Kv.ModRevision != next {
				t.Fatalf("revision %d instead of %d", e.Kv.ModRevision, next)
			}
			next++
		}
	}
	now := f.put("k", "last")
	if r := slow.next(); len(r.Events) != 1 || r.Events[0].Kv.ModRevision != now {
		t.Error(r)
	}
}

// A watcher from a revision that is compacted is canceled with the first that is not; its neighbours go on.
func TestWatchCompacted(t *testing.T) {
	f := serve(t)
	for range 10 {
		f.put("k", "x")
	}
	if _, err := f.direct.Compact(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	s := f.raw()
	// The first starts the group, so that it is the group's watcher that the member cancels.
	if r := s.create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 3}); !r.Created || r.Canceled {
		t.Fatal(r)
	}
	if r := s.next(); !r.Canceled || r.CompactRevision != 6 || r.WatchId != 0 {
		t.Fatal(r)
	}
	s.create(&pb.WatchCreateRequest{Key: []byte("k")})
	s.create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 2})
	if r := s.next(); !r.Canceled || r.CompactRevision != 6 || r.WatchId != 2 {
		t.Fatal(r)
	}
	now := f.put("k", "y")
	if r := s.next(); r.WatchId != 1 || len(r.Events) != 1 || r.Events[0].Kv.ModRevision != now {
		t.Fatal(r)
	}
}

// Users see only what each may see: tokens go on to the member, and nothing that one has read reaches another.
func TestUsersShareNothing(t *testing.T) {
	f := serve(t)
	f.put("k", "secret")
	anonymous := f.raw()
	anonymous.create(&pb.WatchCreateRequest{Key: []byte("k")})
	enableAuth(t, f.direct)
	tokens := map[string]string{}
	for _, name := range []string{"root", "reader", "other"} {
		r, err := pb.NewAuthClient(f.direct.ActiveConnection()).Authenticate(t.Context(), &pb.AuthenticateRequest{Name: name, Password: name})
		if err != nil {
			t.Fatal(err)
		}
		tokens[name] = r.Token
	}
	as := func(name string) *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{f.addr}, Token: tokens[name]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	reader, other := as("reader"), as("other")
	for range 2 {
		if r, err := reader.Get(t.Context(), "k", clientv3.WithSerializable()); err != nil || !bytes.Equal(r.Kvs[0].Value, []byte("secret")) {
			t.Fatal(r, err)
		}
		if _, err := other.Get(t.Context(), "k", clientv3.WithSerializable()); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Error(err)
		}
		if _, err := f.proxy.Get(t.Context(), "k", clientv3.WithSerializable()); !errors.Is(err, rpctypes.ErrUserEmpty) {
			t.Error(err)
		}
	}
	ch := reader.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	first := (<-ch).Header.Revision + 1
	if wr := <-other.Watch(t.Context(), "k"); !wr.Canceled || wr.Err() == nil || !strings.Contains(wr.Err().Error(), "permission denied") {
		t.Error(wr, wr.Err())
	}
	// The group without a token is there since before users were; whoever joins it now is refused all the same.
	if r := anonymous.create(&pb.WatchCreateRequest{Key: []byte("k")}); !r.Canceled || !strings.Contains(r.CancelReason, "user name is empty") {
		t.Error(r)
	}
	if _, err := as("root").Put(t.Context(), "k", "new"); err != nil {
		t.Fatal(err)
	}
	if err := follow(ch, 1, first); err != nil {
		t.Error(err)
	}
}

// enableAuth makes the users root, reader, who may read k, and other, who may nothing. Their passwords are their names.
func enableAuth(t *testing.T, c *clientv3.Client) {
	t.Helper()
	for _, do := range []func() error{
		func() error { _, err := c.RoleAdd(t.Context(), "readers"); return err },
		func() error {
			_, err := c.RoleGrantPermission(t.Context(), "readers", "k", "", clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := c.RoleAdd(t.Context(), "root"); return err },
		func() error { _, err := c.UserAdd(t.Context(), "root", "root"); return err },
		func() error { _, err := c.UserAdd(t.Context(), "reader", "reader"); return err },
		func() error { _, err := c.UserAdd(t.Context(), "other", "other"); return err },
		func() error { _, err := c.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := c.UserGrantRole(t.Context(), "reader", "readers"); return err },
		func() error { _, err := c.AuthEnable(t.Context()); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
}
