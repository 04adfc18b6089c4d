package rpc

import (
	"context"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
)

// grant makes leases for a test's callers.
func (f *fixture) grant(t testing.TB, ids ...int64) {
	t.Helper()
	for _, id := range ids {
		if _, err := f.testMember.LeaseGrant(context.Background(), &pb.LeaseGrantRequest{ID: id, TTL: 60}); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitKey returns once key is there, or gone.
func (f *fixture) awaitKey(t testing.TB, key string, there bool) {
	t.Helper()
	ctx := testContext(t)
	w, err := pb.NewWatchClient(f.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create(t, w, &pb.WatchCreateRequest{Key: []byte(key)})
	for {
		r, err := f.kv.Range(ctx, &pb.RangeRequest{Key: []byte(key)})
		if err != nil {
			t.Fatal(err)
		}
		if (r.Count == 1) == there {
			return
		}
		recv(t, w)
	}
}

func TestLockIsHandedOn(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	f.grant(t, 0xa, 0xb, 0xc)
	c := lockpb.NewLockClient(f.conn)
	first, err := c.Lock(ctx, &lockpb.LockRequest{Name: []byte("l"), Lease: 0xa})
	if err != nil || string(first.Key) != "l/a" || first.Header.Revision != 2 {
		t.Fatal(first, err)
	}
	// The holder's second request finds that it has the lock.
	if again, err := c.Lock(ctx, &lockpb.LockRequest{Name: []byte("l"), Lease: 0xa}); err != nil || string(again.Key) != "l/a" {
		t.Fatal(again, err)
	}
	got := make(chan string, 2)
	wait := func(ctx context.Context, lease int64) {
		r, err := c.Lock(ctx, &lockpb.LockRequest{Name: []byte("l"), Lease: lease})
		if err != nil {
			got <- status.Code(err).String()
			return
		}
		got <- string(r.Key)
	}
	impatient, giveUp := context.WithCancel(ctx)
	go wait(impatient, 0xb)
	f.awaitKey(t, "l/b", true)
	go wait(ctx, 0xc)
	f.awaitKey(t, "l/c", true)
	giveUp()
	if s := <-got; s != "Canceled" {
		t.Fatal(s)
	}
	f.awaitKey(t, "l/b", false)
	select {
	case s := <-got:
		t.Fatalf("%s has a lock that is held", s)
	default:
	}
	if _, err := c.Unlock(ctx, &lockpb.UnlockRequest{Key: first.Key}); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "l/c" {
		t.Fatal(s)
	}
}

func TestLockErrors(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	c := lockpb.NewLockClient(f.conn)
	_, err := c.Lock(ctx, &lockpb.LockRequest{Name: []byte("l"), Lease: 0xdead})
	wantError(t, err, status.Error(codes.Unknown, "etcdserver: requested lease not found"))
	// A lease of its own, for who brings none.
	if r, err := c.Lock(ctx, &lockpb.LockRequest{Name: []byte("own")}); err != nil || string(r.Key) != "own/77" {
		t.Fatal(r, err)
	}
	f.grant(t, 0xa)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Lock(ctx, &lockpb.LockRequest{Name: []byte("own"), Lease: 0xa})
		ended <- err
	}()
	f.awaitKey(t, "own/a", true)
	for _, key := range []string{"own/a", "own/77"} {
		if _, err := f.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(key)}); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, <-ended, status.Error(codes.Unknown, "mutex: session is expired"))
}

func TestElection(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	f.grant(t, 0xa, 0xb)
	c := electionpb.NewElectionClient(f.conn)
	name := []byte("e")
	_, err := c.Leader(ctx, &electionpb.LeaderRequest{Name: name})
	wantError(t, err, status.Error(codes.Unknown, "election: no leader"))
	seen, err := c.Observe(ctx, &electionpb.LeaderRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	sees := func(want string) {
		t.Helper()
		r, err := seen.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s=%s", r.Kv.Key, r.Kv.Value); got != want || r.Header.Revision < r.Kv.ModRevision {
			t.Fatalf("saw %s at %d, want %s", got, r.Header.Revision, want)
		}
	}
	a, err := c.Campaign(ctx, &electionpb.CampaignRequest{Name: name, Lease: 0xa, Value: []byte("one")})
	if err != nil || string(a.Leader.Key) != "e/a" || a.Leader.Rev != a.Header.Revision || a.Leader.Lease != 0xa || string(a.Leader.Name) != "e" {
		t.Fatal(a, err)
	}
	sees("e/a=one")
	if l, err := c.Leader(ctx, &electionpb.LeaderRequest{Name: name}); err != nil || string(l.Kv.Value) != "one" || l.Kv.Lease != 0xa {
		t.Fatal(l, err)
	}
	if _, err := c.Proclaim(ctx, &electionpb.ProclaimRequest{Leader: a.Leader, Value: []byte("two")}); err != nil {
		t.Fatal(err)
	}
	sees("e/a=two")
	// The same lease campaigns again with another value: it leads already, and proclaims.
	again, err := c.Campaign(ctx, &electionpb.CampaignRequest{Name: name, Lease: 0xa, Value: []byte("three")})
	if err != nil || again.Leader.Rev != a.Leader.Rev {
		t.Fatal(again, err)
	}
	sees("e/a=three")
	next := make(chan error, 1)
	go func() {
		_, err := c.Campaign(ctx, &electionpb.CampaignRequest{Name: name, Lease: 0xb, Value: []byte("four")})
		next <- err
	}()
	f.awaitKey(t, "e/b", true)
	if _, err := c.Resign(ctx, &electionpb.ResignRequest{Leader: a.Leader}); err != nil {
		t.Fatal(err)
	}
	if err := <-next; err != nil {
		t.Fatal(err)
	}
	sees("e/b=four")
	_, err = c.Proclaim(ctx, &electionpb.ProclaimRequest{Leader: a.Leader})
	wantError(t, err, status.Error(codes.Unknown, "election: not leader"))
	_, err = c.Resign(ctx, &electionpb.ResignRequest{})
	wantError(t, err, status.Error(codes.Unknown, `"leader" field must be provided`))
}

func TestCampaignGivenUpLeavesTheQueue(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	f.grant(t, 0xa, 0xb)
	c := electionpb.NewElectionClient(f.conn)
	if _, err := c.Campaign(ctx, &electionpb.CampaignRequest{Name: []byte("e"), Lease: 0xa}); err != nil {
		t.Fatal(err)
	}
	impatient, giveUp := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Campaign(impatient, &electionpb.CampaignRequest{Name: []byte("e"), Lease: 0xb})
		ended <- err
	}()
	f.awaitKey(t, "e/b", true)
	giveUp()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}
	f.awaitKey(t, "e/b", false)
}

func TestPrefixEnds(t *testing.T) {
	for prefix, want := range map[string]string{"a/": "a0", "a\xff": "b", "\xff\xff": "\x00", "": "\x00"} {
		if got := endOf([]byte(prefix)); string(got) != want {
			t.Errorf("the end of %q is %q, want %q", prefix, got, want)
		}
	}
}
