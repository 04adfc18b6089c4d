package compat

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/test/process"
)

// v2Step is one request of the v2 API.
type v2Step struct {
	method, path string
	// query and form are its parameters, in the URL and in the body.
	query, form url.Values
}

func (s v2Step) String() string {
	return fmt.Sprintf("%s %s?%s %s", s.method, s.path, s.query.Encode(), s.form.Encode())
}

// sorted tells whether nodes have to come in order.
func (s v2Step) sorted() bool {
	on, err := strconv.ParseBool(s.query.Get("sorted"))
	return err == nil && on
}

func (s v2Step) request(ctx context.Context, base string) (*http.Request, error) {
	u := base + s.path
	if len(s.query) > 0 {
		u += "?" + s.query.Encode()
	}
	var body io.Reader
	if s.form != nil {
		body = strings.NewReader(s.form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, s.method, u, body)
	if err == nil && s.form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r, err
}

// v2Answer is what came back, as far as it is compared.
type v2Answer struct {
	status int
	index  string
	// headers are those that must be equal, and the names of those that must be there.
	headers []string
	body    string
	err     error
}

func (a v2Answer) String() string {
	return fmt.Sprintf("%d, index %s, %q %s %v", a.status, a.index, a.headers, a.body, a.err)
}

// v2Index is the index that the answer came with.
func (a v2Answer) v2Index(t testing.TB) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(a.index, 10, 64)
	if err != nil {
		t.Fatalf("no index: %v", a)
	}
	return n
}

// v2Side is one member and the watches that are open to it.
type v2Side struct {
	m       *process.Member
	client  *http.Client
	watches []*v2Watch
}

func (s *v2Side) do(step v2Step) v2Answer {
	ctx, cancel := context.WithTimeout(context.Background(), process.Patience)
	defer cancel()
	r, err := step.request(ctx, s.m.ClientURL())
	if err != nil {
		return v2Answer{err: err}
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return v2Answer{err: err}
	}
	defer resp.Body.Close()
	a := headOf(resp)
	body, err := io.ReadAll(resp.Body)
	a.body, a.err = string(body), err
	return a
}

func headOf(resp *http.Response) v2Answer {
	a := v2Answer{status: resp.StatusCode, index: resp.Header.Get("X-Etcd-Index")}
	for _, k := range []string{"Content-Type", "Allow", "Location"} {
		a.headers = append(a.headers, k+"="+resp.Header.Get(k))
	}
	for _, k := range []string{"X-Etcd-Cluster-Id", "X-Raft-Index", "X-Raft-Term"} {
		if resp.Header.Get(k) != "" {
			a.headers = append(a.headers, k)
		}
	}
	return a
}

// v2Watch is one waiting request: what it brought so far.
type v2Watch struct {
	step   v2Step
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex // guards head and lines
	head  v2Answer
	lines []string
	ended bool
}

// open starts a waiting request and returns once its headers are there.
func (s *v2Side) open(step v2Step) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &v2Watch{step: step, cancel: cancel, done: make(chan struct{})}
	s.watches = append(s.watches, w)
	begun := make(chan struct{})
	go func() {
		defer close(w.done)
		r, err := step.request(ctx, s.m.ClientURL())
		var resp *http.Response
		if err == nil {
			resp, err = s.client.Do(r)
		}
		if err != nil {
			w.head.err = err
			close(begun)
			return
		}
		defer resp.Body.Close()
		w.head = headOf(resp)
		close(begun)
		in := bufio.NewReader(resp.Body)
		for {
			line, err := in.ReadString('\n')
			w.mu.Lock()
			if line != "" {
				w.lines = append(w.lines, line)
			}
			w.ended = err != nil
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	<-begun
}

func (w *v2Watch) seen() (lines []string, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lines), w.ended
}

func (s *v2Side) closeWatches() {
	for _, w := range s.watches {
		w.cancel()
		<-w.done
	}
	s.watches = nil
	s.client.CloseIdleConnections()
}

// v2Pair is Keelson and etcd 3.4, asked the same things.
type v2Pair struct {
	t          testing.TB
	ours, real *v2Side
	asked      []string
	where      string
	found      int
	// newest is the index after the last step, on both.
	newest uint64
}

func newV2Pair(t testing.TB, flags ...string) *v2Pair {
	t.Helper()
	flags = append(flags, "--enable-v2")
	p := &v2Pair{t: t}
	for _, x := range []struct {
		to *(*v2Side)
		p  process.Program
	}{{&p.ours, ours(t)}, {&p.real, stock(t, "etcd34")}} {
		s := &v2Side{m: single(t, x.p, flags...), client: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 100},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
		s.m.Serve()
		t.Cleanup(s.closeWatches)
		*x.to = s
	}
	return p
}

// level brings both sides to the same index, by writes to the one that is behind: from then on indexes are equal as they are.
func (p *v2Pair) level() {
	p.t.Helper()
	for {
		root := v2Step{method: "GET", path: "/v2/keys/", query: url.Values{"quorum": {"true"}}}
		a, b := p.ours.do(root).v2Index(p.t), p.real.do(root).v2Index(p.t)
		p.newest = a
		behind := p.ours
		switch {
		case a == b:
			return
		case b < a:
			behind = p.real
		}
		behind.do(v2Step{method: "PUT", path: "/v2/keys/_level", form: url.Values{"value": {"x"}}})
	}
}

// both asks both sides the same, and compares. It gives etcd's answer.
func (p *v2Pair) both(step v2Step) v2Answer {
	p.t.Helper()
	p.asked = append(p.asked, step.String())
	var got, want v2Answer
	var wait sync.WaitGroup
	wait.Go(func() { got = p.ours.do(step) })
	wait.Go(func() { want = p.real.do(step) })
	wait.Wait()
	if why := v2Difference(got, want, step.sorted()); why != "" {
		p.differ(step.String(), why, got, want)
	}
	if n, err := strconv.ParseUint(want.index, 10, 64); err == nil && n > p.newest {
		p.newest = n
	}
	return want
}

func (p *v2Pair) differ(what, why string, got, want any) {
	p.t.Helper()
	p.found++
	p.t.Errorf("%s\n%s differ: %s\nkeelson: %v\netcd:    %v\nbefore it:\n  %s", p.where, what, why, got, want,
		strings.Join(p.asked[max(0, len(p.asked)-v2ShownSteps):], "\n  "))
}

// v2ShownSteps is how many steps before a difference are shown.
const v2ShownSteps = 12

// watch opens the same waiting request on both sides.
func (p *v2Pair) watch(step v2Step) {
	p.t.Helper()
	p.asked = append(p.asked, step.String())
	p.ours.open(step)
	p.real.open(step)
}

// settle waits until what the open watches brought is equal, and compares it.
func (p *v2Pair) settle() {
	p.t.Helper()
	for i, got := range p.ours.watches {
		want := p.real.watches[i]
		name := fmt.Sprintf("the heads of watch %s", got.step)
		if why := v2Difference(got.head, want.head, false); why != "" {
			p.differ(name, why, got.head, want.head)
		}
		if got.head.err != nil || want.head.err != nil {
			continue
		}
		var a, b []string
		var endedA, endedB bool
		late := time.After(v2WatchPatience)
		tick := time.NewTicker(2 * time.Millisecond)
		for equal, waiting := false, true; !equal && waiting; {
			a, endedA = got.seen()
			b, endedB = want.seen()
			equal = sameLines(a, b) && endedA == endedB
			select {
			case <-late:
				waiting = false
			case <-tick.C:
			}
		}
		tick.Stop()
		if !sameLines(a, b) || endedA != endedB {
			p.differ(fmt.Sprintf("events of watch %s", got.step), "events, or whether they end",
				fmt.Sprintf("%v\n%s", endedA, strings.Join(a, "")), fmt.Sprintf("%v\n%s", endedB, strings.Join(b, "")))
		}
	}
}

// v2WatchPatience is how long the two may take to agree on what came.
const v2WatchPatience = process.Patience

func sameLines(a, b []string) bool {
	return slices.EqualFunc(a, b, func(x, y string) bool { return v2SameBody(x, y, false) })
}

// v2Difference tells how two answers differ; empty if not at all.
func v2Difference(got, want v2Answer, sorted bool) string {
	switch {
	case (got.err != nil) != (want.err != nil):
		return "errors"
	case got.status != want.status:
		return "status"
	case got.index != want.index:
		return "X-Etcd-Index"
	case !slices.Equal(got.headers, want.headers):
		return "headers"
	case !v2SameBody(got.body, want.body, sorted):
		return "body"
	}
	return ""
}

// v2SameBody compares byte for byte, but for expiries, which are each side's own: there must be one on both sides, not
// far apart. Without sorted=true, 3.4 gives nodes in any order.
func v2SameBody(got, want string, sorted bool) bool {
	if got == want {
		return true
	}
	var a, b any
	if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		return false
	}
	// Equal but for the order of fields and white space is not enough.
	return v2Same(a, b, sorted) && keyOrder(got) == keyOrder(want)
}

// keyOrder is the names of an answer's outer fields, in their order.
func keyOrder(body string) string {
	d := json.NewDecoder(bytes.NewReader([]byte(body)))
	depth, names := 0, []string{}
	for {
		tok, err := d.Token()
		if err != nil {
			return strings.Join(names, ",")
		}
		switch v := tok.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
		case string:
			if depth == 1 {
				names = append(names, v)
			}
		}
	}
}

func v2Same(a, b any, sorted bool) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) && !v2OffByTTL(x, y) {
			return false
		}
		for k := range x {
			if !v2SameField(k, x[k], y[k], sorted) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		if !sorted {
			byKey(x)
			byKey(y)
		}
		for i := range x {
			if !v2Same(x[i], y[i], sorted) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// v2OffByTTL allows one side alone to leave out a TTL: it has come to 0 there a moment before.
func v2OffByTTL(x, y map[string]any) bool {
	_, a := x["ttl"]
	_, b := y["ttl"]
	return a != b && max(len(x), len(y))-min(len(x), len(y)) == 1
}

func v2SameField(k string, a, b any, sorted bool) bool {
	switch k {
	case "expiration":
		x, err := time.Parse(time.RFC3339Nano, fmt.Sprint(a))
		y, other := time.Parse(time.RFC3339Nano, fmt.Sprint(b))
		return err == nil && other == nil && x.Sub(y).Abs() < v2ClocksApart
	case "ttl":
		x, _ := a.(float64)
		y, _ := b.(float64)
		// Long ones age by what a busy machine takes for one of the two.
		return math.Abs(x-y) <= 1 || min(x, y) > 1000 && math.Abs(x-y) <= v2ClocksApart.Seconds()
	}
	return v2Same(a, b, sorted)
}

// v2ClocksApart is how far apart two requests of one step may come, on a busy machine.
const v2ClocksApart = 30 * time.Second

func byKey(nodes []any) {
	key := func(n any) string {
		m, _ := n.(map[string]any)
		return fmt.Sprint(m["key"])
	}
	slices.SortFunc(nodes, func(a, b any) int { return strings.Compare(key(a), key(b)) })
}
