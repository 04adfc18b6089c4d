package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/test/process"
)

// v2Event is what of an event these tests look at.
type v2Event struct {
	Action    string
	ErrorCode int
	Node      struct {
		Key, Value    string
		ModifiedIndex uint64
	}
}

// v2 sends a request of the v2 API to a member.
func v2(t *testing.T, m *process.Member, method, path string, form url.Values) (v2Event, int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, m.ClientURL()+"/v2/keys"+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	var e v2Event
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		t.Fatalf("%s %s: %d, %v", method, path, resp.StatusCode, err)
	}
	return e, resp.StatusCode
}

// The v2 API on every member of a cluster is one: what one writes the others compare, watch and expire.
func TestV2OnEveryMember(t *testing.T) {
	t.Parallel()
	plainOnly(t, "v2 with users and certificates is compared elsewhere")
	all := three(t, "--enable-v2", steady) // what is asked twice is refused or done twice
	v2Fresh(t, all)
	v2InOrder(t, all)
	v2Counter(t, all)
}

// v2Fresh makes a node on one member, and at once changes it on another, which may lag: it refuses nothing that it could not
// know yet.
func v2Fresh(t *testing.T, all []*process.Member) {
	for i := range 60 {
		path, value := fmt.Sprintf("/fresh/%d", i), url.Values{"value": {"x"}}
		if e, status := v2(t, all[i%3], "PUT", path+"?prevExist=false", value); status != http.StatusCreated {
			t.Errorf("create: %d %+v", status, e)
		}
		if e, status := v2(t, all[(i+1)%3], "PUT", path+"?prevExist=false", value); status != http.StatusPreconditionFailed || e.ErrorCode != 105 {
			t.Errorf("create again: %d %+v", status, e)
		}
		if e, status := v2(t, all[(i+2)%3], "PUT", path+"?prevExist=true&prevValue=x&ttl=100", url.Values{"value": {"y"}}); status != http.StatusOK {
			t.Errorf("compare and swap: %d %+v", status, e)
		}
		if e, status := v2(t, all[i%3], "DELETE", path+"?prevValue=y", nil); status != http.StatusOK {
			t.Errorf("compare and delete: %d %+v", status, e)
		}
	}
}

// v2InOrder makes names on three members at once: they grow with the indexes.
func v2InOrder(t *testing.T, all []*process.Member) {
	var mu sync.Mutex
	var made []v2Event
	var running sync.WaitGroup
	for i := range 9 {
		running.Go(func() {
			for range 20 {
				e, status := v2(t, all[i%3], "POST", "/queue", url.Values{"value": {"x"}})
				if status != http.StatusCreated {
					t.Errorf("%d %+v", status, e)
				}
				mu.Lock()
				made = append(made, e)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	slices.SortFunc(made, func(a, b v2Event) int { return int(a.Node.ModifiedIndex) - int(b.Node.ModifiedIndex) })
	for i := 1; i < len(made); i++ {
		if made[i].Node.Key <= made[i-1].Node.Key {
			t.Errorf("%+v came after %+v", made[i].Node, made[i-1].Node)
		}
	}
}

// v2Counter counts up on three members at once by compare and swap.
func v2Counter(t *testing.T, all []*process.Member) {
	v2(t, all[0], "PUT", "/n", url.Values{"value": {"0"}})
	var running sync.WaitGroup
	for _, m := range all {
		running.Go(func() {
			for done := 0; done < 15; {
				e, _ := v2(t, m, "GET", "/n?quorum=true", nil)
				var n int
				if _, err := fmt.Sscan(e.Node.Value, &n); err != nil {
					t.Errorf("%+v: %v", e, err)
					return
				}
				form := url.Values{"value": {fmt.Sprint(n + 1)}, "prevValue": {e.Node.Value}}
				if _, status := v2(t, m, "PUT", "/n", form); status == http.StatusOK {
					done++
				}
			}
		})
	}
	running.Wait()
	if e, _ := v2(t, all[1], "GET", "/n?quorum=true", nil); e.Node.Value != "45" {
		t.Errorf("the counter is %s, not 45", e.Node.Value)
	}
}

// The leader, which had also served requests, is killed: all nodes end all the same, and the others tell.
func TestV2Expiry(t *testing.T) {
	t.Parallel()
	plainOnly(t, "v2 with users and certificates is compared elsewhere")
	all := three(t, "--enable-v2")
	gone := leader(t, all)
	left := all[(gone+1)%3]
	stream := http.Client{Timeout: 3 * process.Patience} // or it would wait for ever where nothing ends
	resp, err := stream.Get(left.ClientURL() + "/v2/keys/ttl?wait=true&recursive=true&stream=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range 3 {
		for n, m := range all {
			process.Until(t, "a node is made", func() error { // an election may come between
				e, status := v2(t, m, "PUT", fmt.Sprintf("/ttl/%d-%d", i, n), url.Values{"value": {"x"}, "ttl": {fmt.Sprint(2 + i)}})
				if status >= http.StatusInternalServerError {
					return fmt.Errorf("%d %+v", status, e)
				}
				return nil
			})
		}
	}
	all[gone].Kill()
	began := time.Now()
	events := bufio.NewScanner(resp.Body)
	ended := map[string]bool{}
	for len(ended) < 9 && events.Scan() {
		var e v2Event
		if err := json.Unmarshal(events.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.Action == "expire" {
			ended[e.Node.Key] = true
		}
	}
	if len(ended) < 9 || time.Since(began) > process.Patience {
		t.Errorf("%v ended after %v: %v", ended, time.Since(began), events.Err())
	}
	process.Until(t, "a read asks the others", func() error {
		if e, status := v2(t, left, "GET", "/ttl?quorum=true", nil); status != http.StatusOK {
			return fmt.Errorf("%d %+v", status, e)
		}
		return nil
	})
	all[gone].Serve()
}
