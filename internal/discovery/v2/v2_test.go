package v2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/rendezvous"
)

// service is the v2 API as far as founders use it, called without a network.
type service struct {
	mu      sync.Mutex
	index   int
	size    string
	nodes   []map[string]any
	changed chan struct{}
	// failing is how many requests get an answer of 503 first.
	failing int
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.serve(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing > 0 {
		s.failing--
		http.Error(w, "no leader", http.StatusServiceUnavailable)
		return
	}
	q := r.URL.Query()
	switch key := strings.TrimPrefix(r.URL.Path, "/v2/keys/tok"); {
	case key == "/_config/size" && s.size == "":
		s.say(w, http.StatusNotFound, map[string]any{"errorCode": 100, "message": "Key not found"})
	case key == "/_config/size":
		s.say(w, 200, map[string]any{"node": map[string]any{"key": "/tok/_config/size", "value": s.size}})
	case q.Get("wait") == "true":
		if q.Get("waitIndex") > fmt.Sprint(s.index) {
			changed := s.changed
			s.mu.Unlock()
			select {
			case <-changed:
			case <-r.Context().Done():
			}
			s.mu.Lock()
		}
		s.say(w, 200, map[string]any{"action": "create", "node": map[string]any{"key": "/tok/x"}})
	case r.Method == http.MethodPut:
		s.put(w, r, key)
	default:
		s.say(w, 200, map[string]any{"action": "get", "node": map[string]any{"key": "/tok", "dir": true, "nodes": s.nodes}})
	}
}

func (s *service) put(w http.ResponseWriter, r *http.Request, key string) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	for _, n := range s.nodes {
		if n["key"] == "/tok"+key {
			s.say(w, http.StatusPreconditionFailed, map[string]any{"errorCode": 105, "message": "Key already exists"})
			return
		}
	}
	s.index++
	n := map[string]any{"key": "/tok" + key, "value": form.Get("value"), "createdIndex": s.index}
	s.nodes = append([]map[string]any{n}, s.nodes...) // a service sorts by name, or not at all
	close(s.changed)
	s.changed = make(chan struct{})
	s.say(w, http.StatusCreated, map[string]any{"action": "create", "node": n})
}

func (s *service) say(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("X-Etcd-Index", fmt.Sprint(s.index))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func options(t *testing.T, rt http.RoundTripper) Options {
	t.Helper()
	u, err := url.Parse("http://disc.example.com:2379/v2/keys/tok/")
	if err != nil {
		t.Fatal(err)
	}
	return Options{URL: u, Clock: clock.System, Logger: zap.NewNop(), Transport: rt}
}

func find(t *testing.T, o Options, i int) (types.URLsMap, error) {
	t.Helper()
	urls, err := types.NewURLs([]string{fmt.Sprintf("http://10.0.0.%d:2380", i)})
	if err != nil {
		t.Fatal(err)
	}
	return Find(t.Context(), o, uint64(i), fmt.Sprint("m", i), urls)
}

// Founders come minutes apart, to a service that fails in between; one more is told that the cluster is full.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{index: 5, size: "3", changed: make(chan struct{}), failing: 3}
		o := options(t, s)
		var found sync.WaitGroup
		for _, i := range []int{3, 1, 2} {
			found.Go(func() {
				m, err := find(t, o, i)
				if err != nil || m.String() != "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380" {
					t.Errorf("%d: %v, %v", i, m, err)
				}
			})
			synctest.Wait()
			time.Sleep(10 * time.Minute) // in the bubble's time
		}
		found.Wait()
		if _, err := find(t, o, 4); !errors.Is(err, rendezvous.ErrFull) || !strings.Contains(err.Error(), "m3=http://10.0.0.3:2380, m1=") {
			t.Errorf("a fourth: %v", err)
		}
		if m, err := find(t, o, 2); err != nil || len(m) != 3 {
			t.Errorf("again: %v, %v", m, err)
		}
	})
}

// answers gives the same answer to every request.
type answers func(*http.Request) *http.Response

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func same(status int, body string, header ...string) answers {
	return func(r *http.Request) *http.Response {
		w := httptest.NewRecorder()
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		resp := w.Result()
		resp.Request = r
		return resp
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		rt   http.RoundTripper
		want error
	}{
		"no token":      {&service{}, rendezvous.ErrSizeNotFound},
		"bad size":      {&service{size: "many"}, rendezvous.ErrBadSize},
		"no v2 API":     {same(http.StatusNotFound, "<html>nothing here</html>"), errBadEndpoint},
		"other JSON":    {same(http.StatusOK, `{"hello":"world"}`), errBadEndpoint},
		"no access":     {same(http.StatusUnauthorized, `{"errorCode":110,"message":"The request requires user authentication"}`), rendezvous.ErrRefused},
		"endless":       {same(http.StatusOK, strings.Repeat("x", answerBytesMax+1)), errBadEndpoint},
		"goes in round": {same(http.StatusFound, "", "Location", "http://disc.example.com:2379/v2/keys/tok/_config/size"), errBadEndpoint},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if m, err := find(t, options(t, c.rt), 1); !errors.Is(err, c.want) {
					t.Errorf("%v, %v", m, err)
				}
			})
		})
	}
}

// A redirect is followed for reads, not where a write would become a read or secrecy end.
func TestRedirect(t *testing.T) {
	request := func(method, to string) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), method, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct {
		first, next *http.Request
		ok          bool
	}{
		{request("GET", "http://a/x"), request("GET", "https://b/x"), true},
		{request("PUT", "http://a/x"), request("PUT", "http://b/x"), true},
		{request("PUT", "http://a/x"), request("GET", "http://b/x"), false},
		{request("GET", "https://a/x"), request("GET", "http://b/x"), false},
	} {
		if err := redirect(c.next, []*http.Request{c.first}); (err == nil) != c.ok {
			t.Errorf("%s %s to %s %s: %v", c.first.Method, c.first.URL, c.next.Method, c.next.URL, err)
		}
	}
}

// No error says the password of the URL or of the proxy.
func TestSecret(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			http.Redirect(w, r, "ftp://user:secret@elsewhere/tok", http.StatusTemporaryRedirect)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errorCode": 100}`)
	}))
	at := s.Listener.Addr().String()
	find := func(proxy *url.URL) (errs []error) {
		r := &registry{
			base: &url.URL{Scheme: "http", User: url.UserPassword("user", "secret"), Host: at, Path: "/tok"}, clock: clock.System,
			client: &http.Client{Transport: transport(proxy), CheckRedirect: redirect},
		}
		defer r.client.CloseIdleConnections()
		_, err := r.Size(t.Context())
		return append(errs, err, r.Register(t.Context(), rendezvous.Registration{ID: "1", Text: "x"}))
	}
	errs := find(nil) // no token, and a redirection
	s.Close()
	errs = append(errs, find(nil)...) // nobody there
	errs = append(errs, find(&url.URL{Scheme: "http", User: url.UserPassword("user", "secret"), Host: at})...)
	for i, err := range errs {
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "/tok") {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// A service without an index is looked at now and then; one that ends a wait without a word is asked again.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, same(http.StatusOK, ""))
		r := &registry{base: o.URL, clock: o.Clock, client: &http.Client{Transport: o.Transport}}
		began := time.Now()
		if err := r.Changed(t.Context(), 0); err != nil || time.Since(began) != pollTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := r.Changed(t.Context(), 7); err != nil {
			t.Error(err)
		}
		r.client.Transport = same(http.StatusBadRequest, `{"errorCode":401,"message":"The event in requested index is outdated and cleared"}`)
		if err := r.Changed(t.Context(), 7); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Changed(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(200, "7", []byte(`{"node":{"key":"/t","nodes":[{"key":"/t/1","value":"a=http://a:1","createdIndex":4}]}}`))
	f.Add(404, "", []byte(`{"errorCode":100,"message":"Key not found","cause":"/t","index":4}`))
	f.Add(200, "-1", []byte(``))
	f.Fuzz(func(t *testing.T, status int, index string, body []byte) {
		a, err := decode(status, index, body)
		if (a == nil) == (err == nil) {
			t.Fatalf("%v, %v", a, err)
		}
		if err == nil && a.index < 0 {
			t.Errorf("%+v", a)
		}
		if err == nil && a.failure() == nil && len(a.registrations()) > len(a.Node.Nodes) {
			t.Errorf("%+v", a)
		}
	})
}
