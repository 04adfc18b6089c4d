package discoverysvc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keelson/internal/kit/clock"
)

// waiter is a request that waits: the headers that it got at once, and the answer.
type waiter struct {
	target string
	header http.Header
	body   io.Reader
}

// waits opens a waiting request.
func (s *site) waits(target string) waiter {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+target, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: patience}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s", target, resp.Status)
	}
	return waiter{target, resp.Header, resp.Body}
}

// told reads what a waiting request was told.
func (s *site) told(w waiter) (e event) {
	s.t.Helper()
	if err := json.NewDecoder(w.body).Decode(&e); err != nil {
		s.t.Fatalf("%s: %v", w.target, err)
	}
	return e
}

// A member that waits hears of each that comes, in order and once, also of those that came between two questions.
func TestWait(t *testing.T) {
	s := newSite(t, nil)
	token, other := s.token("4"), s.token("4")
	index := s.register(token, "a").event.Node.CreatedIndex
	first := s.waits(fmt.Sprintf("%s?recursive=true&wait=true&waitIndex=%d", token, index+1))
	if first.header.Get("X-Etcd-Index") != fmt.Sprint(index) {
		t.Errorf("%v", first.header)
	}
	s.register(other, "x") // nobody's business
	s.register(token, "b")
	if e := s.told(first); e.Action != "create" || e.Node.Key != token+"/b" {
		t.Errorf("%+v", e)
	} else {
		index = e.Node.CreatedIndex
	}
	s.register(token, "0c")
	s.register(token, "d")
	for _, want := range []string{"/0c", "/d"} {
		e := s.told(s.waits(fmt.Sprintf("%s?recursive=true&wait=true&waitIndex=%d", token, index+1)))
		if e.Node.Key != token+want {
			t.Errorf("%+v, not %s", e, want)
		}
		index = e.Node.CreatedIndex
	}
	next := s.waits(token + "?recursive=true&wait=true") // from now on
	s.register(token, "e")
	if e := s.told(next); e.Node.Key != token+"/e" {
		t.Errorf("%+v", e)
	}
	// The directory is no member; what is hidden in it is told of where it is asked for itself.
	if e := s.told(s.waits(token + "?recursive=true&wait=true&waitIndex=1")); e.Node.Key != token+"/a" {
		t.Errorf("%+v", e)
	}
	if e := s.told(s.waits(token + "/_config/size?wait=true&waitIndex=1")); e.Node.Key != token+"/_config/size" || e.Node.Value != "4" {
		t.Errorf("%+v", e)
	}
}

// All who wait for a token are told, at once, and at another service of the same cluster too.
func TestManyWait(t *testing.T) {
	s := newSite(t, nil)
	there := siteOn(t, s.store, nil)
	token := s.token("3")
	var all []waiter
	for i := range 20 {
		at := s
		if i%2 == 1 {
			at = there
		}
		all = append(all, at.waits(token+"?recursive=true&wait=true"))
	}
	s.register(token, "a")
	for _, resp := range all {
		if e := s.told(resp); e.Node.Key != token+"/a" {
			t.Errorf("%+v", e)
		}
	}
}

// Who waits at the end gets an empty answer, which clients of v2 ask again after, and so does who waits for a token that ends.
func TestWaitsEnd(t *testing.T) {
	s := newSite(t, nil)
	gone, stays := s.token("3"), s.token("3")
	first, second := s.waits(gone+"?recursive=true&wait=true"), s.waits(stays+"?recursive=true&wait=true")
	leases, err := s.store.Lease.LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		ttl, err := s.store.Lease.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
		if err != nil {
			t.Fatal(err)
		}
		if string(ttl.Keys[0]) == s.service.o.Prefix.Node(gone) {
			s.service.tokens.revoke(t.Context(), l.ID)
		}
	}
	if body, err := io.ReadAll(first.body); len(body) != 0 || err != nil {
		t.Errorf("%q %v", body, err)
	}
	s.close()
	if body, err := io.ReadAll(second.body); len(body) != 0 || err != nil {
		t.Errorf("%q %v", body, err)
	}
	s.want(http.StatusServiceUnavailable, 300, "GET", stays+"?wait=true", "")
}

// Nobody waits for ever: the empty answer is one that clients of v2 ask again after.
func TestWaitTime(t *testing.T) {
	s := newSite(t, nil)
	token := s.token("3")
	s.service.waits.longest = time.Millisecond
	a := s.want(http.StatusOK, 0, "GET", token+"?wait=true", "")
	if a.body != "" || a.header.Get("X-Etcd-Index") == "" {
		t.Errorf("%q %v", a.body, a.header)
	}
}

func TestWaitBounds(t *testing.T) {
	x := build(Store{}, Options{Clock: clock.System}).waits
	from := netip.MustParseAddr("10.0.0.1")
	var leave []func()
	for i := range waitsAddressMax {
		_, f, err := x.join(fmt.Sprint(i), from)
		if err != nil {
			t.Fatal(i, err)
		}
		leave = append(leave, f)
	}
	if _, _, err := x.join("more", from); err == nil {
		t.Error("an address waits without bound")
	}
	for i := range waitsTokenMax - 1 {
		_, f, err := x.join("0", netip.MustParseAddr(fmt.Sprintf("10.1.%d.%d", i/256, i%256)))
		if err != nil {
			t.Fatal(i, err)
		}
		leave = append(leave, f)
	}
	if _, _, err := x.join("0", netip.MustParseAddr("10.0.0.2")); err == nil {
		t.Error("a token is waited for without bound")
	}
	for i := 0; x.count < waitsMax; i++ {
		_, f, err := x.join(fmt.Sprint("t", i), netip.MustParseAddr(fmt.Sprintf("10.2.%d.%d", i/256, i%256)))
		if err != nil {
			t.Fatal(i, err)
		}
		leave = append(leave, f)
	}
	if _, _, err := x.join("more", netip.MustParseAddr("10.0.0.2")); err == nil {
		t.Error("there is no bound on all")
	}
	for _, f := range leave {
		f()
	}
	if x.count != 0 || len(x.tokens) != 0 || len(x.from) != 0 {
		t.Errorf("%d waiting, %d tokens, %d addresses are left", x.count, len(x.tokens), len(x.from))
	}
}

// breaking is a watch that breaks off when it is told to.
type breaking struct {
	pb.WatchClient
	mu    sync.Mutex // guards end
	end   context.CancelFunc
	began chan struct{} // has one for each
}

func (b *breaking) Watch(ctx context.Context, o ...grpc.CallOption) (grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse], error) {
	ctx, end := context.WithCancel(ctx)
	b.mu.Lock()
	b.end = end
	b.mu.Unlock()
	b.began <- struct{}{}
	return b.WatchClient.Watch(ctx, o...)
}

// A watch of the cluster that breaks off is begun anew, and nobody who waits misses what came meanwhile.
func TestBrokenWatch(t *testing.T) {
	store := newStore(t)
	b := &breaking{WatchClient: store.Watch, began: make(chan struct{}, 100)}
	store.Watch = b
	s := siteOn(t, store, nil)
	token := s.token("3")
	resp := s.waits(token + "?recursive=true&wait=true")
	<-b.began
	b.mu.Lock()
	b.end()
	b.mu.Unlock()
	s.register(token, "a")
	if e := s.told(resp); e.Node.Key != token+"/a" {
		t.Errorf("%+v", e)
	}
	resp = s.waits(token + "?recursive=true&wait=true")
	s.register(token, "b")
	if e := s.told(resp); e.Node.Key != token+"/b" {
		t.Errorf("%+v", e)
	}
}
