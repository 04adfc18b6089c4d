package access

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/kit/clock"
)

// reached answers what no check refuses.
var reached = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })

func TestHosts(t *testing.T) {
	for _, x := range []struct {
		hosts  []string
		host   string
		secure bool
		code   int
	}{
		{nil, "anything", false, http.StatusTeapot},
		{[]string{"*"}, "anything:2379", false, http.StatusTeapot},
		{[]string{"a", "*"}, "b", false, http.StatusTeapot},
		{[]string{"a", "127.0.0.1"}, "127.0.0.1:2379", false, http.StatusTeapot},
		{[]string{"a"}, "a", false, http.StatusTeapot},
		{[]string{"a"}, "b:2379", false, http.StatusMisdirectedRequest},
		{[]string{"a"}, "b:2379", true, http.StatusTeapot},
		{[]string{"a"}, "a:::", false, http.StatusMisdirectedRequest},
		{[]string{"::1"}, "[::1]:2379", false, http.StatusTeapot},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = x.host
		if x.secure {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		Guard(reached, Options{Hosts: x.hosts, Logger: zap.NewNop(), Clock: clock.System}).ServeHTTP(w, r)
		if w.Code != x.code {
			t.Errorf("%v, %q, TLS %v: %d, not %d", x.hosts, x.host, x.secure, w.Code, x.code)
		}
	}
}

// Whoever sends the same wrong name again and again fills no disk.
func TestRefusedHostIsLoggedOnce(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	g := Guard(reached, Options{Hosts: []string{"a"}, Logger: zap.New(core), Clock: clock.System})
	for range 5 {
		g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
	if logs.Len() != 1 {
		t.Errorf("%d lines", logs.Len())
	}
}

func TestOrigins(t *testing.T) {
	for _, x := range []struct {
		origins []string
		method  string
		header  http.Header
		code    int
		allowed string
	}{
		{nil, "GET", nil, http.StatusTeapot, "*"},
		{[]string{"*"}, "GET", http.Header{"Origin": {"http://x"}}, http.StatusTeapot, "*"},
		{[]string{"*"}, "OPTIONS", http.Header{"Origin": {"http://x"}}, http.StatusOK, "*"},
		{[]string{"http://a", "http://b"}, "POST", http.Header{"Origin": {"http://b"}}, http.StatusTeapot, "http://b"},
		{[]string{"http://a"}, "OPTIONS", http.Header{"Origin": {"http://a"}}, http.StatusOK, "http://a"},
		{[]string{"http://a"}, "POST", http.Header{"Origin": {"http://b"}}, http.StatusTeapot, ""},
		{[]string{"http://a"}, "POST", nil, http.StatusTeapot, ""},
		{[]string{"http://a"}, "GET", http.Header{"Upgrade": {"websocket"}}, http.StatusTeapot, ""},
		{[]string{"http://a"}, "GET", http.Header{"Upgrade": {"WebSocket"}, "Origin": {"http://b"}}, http.StatusForbidden, ""},
		{[]string{"http://a"}, "GET", http.Header{"Upgrade": {"websocket"}, "Origin": {"http://a"}}, http.StatusTeapot, "http://a"},
		{[]string{"http://a"}, "GET", http.Header{"Upgrade": {"websocket"}, "Origin": {"http://example.com"}}, http.StatusTeapot, ""},
		{nil, "GET", http.Header{"Upgrade": {"websocket"}, "Origin": {"http://b"}}, http.StatusTeapot, "*"},
	} {
		r := httptest.NewRequest(x.method, "/", nil) // its host is example.com
		for name, v := range x.header {
			r.Header[name] = v
		}
		w := httptest.NewRecorder()
		Guard(reached, Options{Origins: x.origins, Logger: zap.NewNop(), Clock: clock.System}).ServeHTTP(w, r)
		if got := w.Header().Get("Access-Control-Allow-Origin"); w.Code != x.code || got != x.allowed {
			t.Errorf("%v, %s %v: %d and %q, not %d and %q", x.origins, x.method, x.header, w.Code, got, x.code, x.allowed)
		}
		if methods := w.Header().Get("Access-Control-Allow-Methods"); (methods != "") != (x.allowed != "") {
			t.Errorf("%v, %s %v: methods %q", x.origins, x.method, x.header, methods)
		}
	}
}
