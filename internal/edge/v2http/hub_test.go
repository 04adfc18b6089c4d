package v2http

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/state/v2tree"
)

// setAt is the event of a set of a key at an index.
func setAt(key string, index uint64) v2tree.Happening {
	return v2tree.Happening{Event: &v2tree.Event{Action: "set", Index: index, Node: &v2tree.Extern{Key: key, ModifiedIndex: index}}}
}

// A stream that does not take its events is cut, and holds up nobody.
func TestSlowStreamIsCut(t *testing.T) {
	h := &hub{waiters: map[string][]*waiter{}, options: Options{WaitsMax: 10}}
	slow := &waiter{path: "/a", stream: true, since: 1, events: make(chan *v2tree.Event, eventsWaiting)}
	quick := &waiter{path: "/", recursive: true, stream: true, since: 1, events: make(chan *v2tree.Event, eventsWaiting)}
	for _, w := range []*waiter{slow, quick} {
		if e, err := h.add(w, 0); e != nil || err != nil {
			t.Fatalf("%v, %v", e, err)
		}
	}
	for i := range uint64(2 * eventsWaiting) {
		h.publish(setAt("/a", i+1))
		if e := <-quick.events; e.Index != i+1 {
			t.Fatalf("event %d, not %d", e.Index, i+1)
		}
	}
	n := 0
	for range slow.events { // it ends
		n++
	}
	if n != eventsWaiting || h.waiting() != 1 {
		t.Errorf("the slow stream got %d events; %d wait", n, h.waiting())
	}
	h.drop(slow) // its request ends after it was cut
	h.drop(quick)
	if h.waiting() != 0 || len(h.waiters) != 0 {
		t.Errorf("%d wait, at %v", h.waiting(), h.waiters)
	}
}

// When history between two moments is lost, who waits is cut, and nobody is told that nothing happened.
func TestLostHistory(t *testing.T) {
	p := newPlace(t, nil)
	p.ask("PUT", "/v2/keys/a", "value=1")
	p.ask("PUT", "/v2/keys/a", "value=2")
	w := p.stream("/a?wait=true&stream=true")
	if _, err := p.member.Compact(context.Background(), &pb.CompactionRequest{Revision: 3}); err != nil {
		t.Fatal(err)
	}
	p.edge.hub.lost()
	if b, err := w.ReadByte(); err == nil {
		t.Errorf("a stream goes on with %q", b)
	}
	p.want(400, `{"errorCode":401,%"cause":"the requested history has been cleared [4/2]",%`, "GET", "/v2/keys/a?wait=true&waitIndex=2", "")
	p.ask("PUT", "/v2/keys/a", "value=3")
	p.want(200, `{"action":"set","node":{"key":"/a","value":"3",%`, "GET", "/v2/keys/a?wait=true&waitIndex=4", "")
}

// Keys and directories end when they are to, though v3's own leases last for some seconds and a refresh leaves one behind.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, nil)
		for _, r := range [][2]string{{"now", "ttl=0"}, {"soon", "ttl=1&value=x"}, {"dir", "ttl=3&dir=true"}, {"dir/sub/x", "value=y&ttl=9"}, {"kept", "ttl=2&value=x"}, {"made", "ttl=3"}} {
			if w := p.ask("PUT", "/v2/keys/"+r[0], r[1]); w.Code != http.StatusCreated {
				t.Fatalf("%v: %d %s", r, w.Code, w.Body)
			}
		}
		p.ask("PUT", "/v2/keys/kept?prevExist=true", "ttl=8&refresh=true")
		p.ask("PUT", "/v2/keys/made?prevExist=true", "value=for good")
		there := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			var got struct {
				Node struct{ Nodes []struct{ Key string } }
			}
			if err := json.Unmarshal(p.ask("GET", "/v2/keys/", "").Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, n := range got.Node.Nodes {
				keys = append(keys, n.Key)
			}
			if text := strings.Join(keys, " "); text != want {
				t.Errorf("%s are there, not %s", text, want)
			}
		}
		there(500*time.Millisecond, "/dir /kept /made /soon")
		there(700*time.Millisecond, "/dir /kept /made")
		there(2*time.Second, "/kept /made")
		there(4*time.Second, "/kept /made")
		there(2*time.Second, "/made")
		there(time.Hour, "/made")
		leases, err := p.member.LeaseLeases(context.Background(), &pb.LeaseLeasesRequest{})
		if err != nil || len(leases.Leases) != 0 {
			t.Errorf("left: %v, %v", leases, err)
		}
		p.want(200, `{"action":"expire","node":{"key":"/soon",%},"prevNode":{"key":"/soon","value":"x",%}}`, "GET", "/v2/keys/soon?wait=true&waitIndex=8", "")
		p.want(200, `{"action":"expire","node":{"key":"/dir","dir":true,%`, "GET", "/v2/keys/dir/sub/x?wait=true&waitIndex=8", "")
		// What went with its directory is not told a second time when its own lease ends.
		p.want(200, `{%,"expireCount":4,%}`, "GET", "/v2/stats/store", "")
	})
}

// A directory that ends by its lease alone, since the member that wrote it has forgotten it, leaves nothing: who watches below
// it is told once, and its keys are deleted.
func TestExpiryByLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, nil)
		p.ask("PUT", "/v2/keys/d", "ttl=1&dir=true")
		p.ask("PUT", "/v2/keys/d/sub/x", "value=y")
		p.ask("POST", "/v2/keys/d/queue", "value=y")
		p.ask("PUT", "/v2/keys/k", "ttl=1")
		p.edge.Close()
		p.serve(nil)
		w := &waiter{path: "/d/sub/x", stream: true, since: 6, events: make(chan *v2tree.Event, eventsWaiting)}
		other := &waiter{path: "/d/nothing", stream: true, since: 6, events: make(chan *v2tree.Event, eventsWaiting)}
		for _, x := range []*waiter{w, other} {
			if e, err := p.edge.hub.add(x, 5); e != nil || err != nil {
				t.Fatalf("%v, %v", e, err)
			}
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(w.events) != 1 || len(other.events) != 0 {
			t.Errorf("below the directory %d events were told, and %d of what was not there", len(w.events), len(other.events))
		}
		p.want(404, `{"errorCode":100,%}`, "GET", "/v2/keys/d", "")
		p.want(404, `{"errorCode":100,%}`, "GET", "/v2/keys/k", "")
		r, err := p.member.Range(context.Background(), &pb.RangeRequest{Key: []byte("/_v2/"), RangeEnd: []byte("/_v20")})
		if err != nil || len(r.KVs) != 0 {
			t.Errorf("left: %q, %v", r.KVs, err)
		}
	})
}

// Writers at the same time lose nothing, and names in order grow with their indexes.
func TestWritersAtOnce(t *testing.T) {
	p := newPlace(t, nil)
	p.ask("PUT", "/v2/keys/n", "value=0")
	const writers, rounds = 8, 10
	type made struct {
		index uint64
		key   string
	}
	var mu sync.Mutex
	var names []made
	var running sync.WaitGroup
	for i := range writers {
		running.Go(func() {
			for range rounds {
				p.addOne()
				var e struct {
					Node struct {
						Key           string
						ModifiedIndex uint64
					}
				}
				if err := json.Unmarshal(p.ask("POST", "/v2/keys/queue", "value=x").Body.Bytes(), &e); err != nil {
					t.Error(err)
				}
				mu.Lock()
				names = append(names, made{e.Node.ModifiedIndex, e.Node.Key})
				mu.Unlock()
				p.ask("PUT", fmt.Sprintf("/v2/keys/own/%d", i), "value=x")
			}
		})
	}
	running.Wait()
	p.want(200, fmt.Sprintf(`{"action":"get","node":{"key":"/n","value":"%d",%s}}`, writers*rounds, "%"), "GET", "/v2/keys/n", "")
	slices.SortFunc(names, func(a, b made) int { return int(a.index) - int(b.index) })
	for i := 1; i < len(names); i++ {
		if names[i].key <= names[i-1].key || names[i].index == names[i-1].index {
			t.Errorf("%v came after %v", names[i], names[i-1])
		}
	}
	if len(p.edge.turns.waiting) != 0 {
		t.Errorf("turns are left: %v", p.edge.turns.waiting)
	}
}

// addOne counts up by compare and swap.
func (p *place) addOne() {
	for {
		var e struct {
			Node struct {
				Value         string
				ModifiedIndex uint64
			}
		}
		if err := json.Unmarshal(p.ask("GET", "/v2/keys/n", "").Body.Bytes(), &e); err != nil {
			p.t.Error(err)
			return
		}
		n, err := strconv.Atoi(e.Node.Value)
		if err != nil {
			p.t.Error(err)
			return
		}
		w := p.ask("PUT", fmt.Sprintf("/v2/keys/n?prevIndex=%d", e.Node.ModifiedIndex), fmt.Sprintf("value=%d", n+1))
		if w.Code == http.StatusOK {
			return
		}
	}
}
