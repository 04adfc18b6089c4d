package jsonapi

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/edge/rpc"
)

func TestUnary(t *testing.T) {
	f := serve(t)
	for _, x := range []struct {
		path, body string
		code       int
		part       string
	}{
		{"/v3/kv/put", `{"key":"YQ==","value":"MQ=="}`, 200, `"revision":"2"`},
		{"/v3beta/kv/put", `{"key":"YQ==","value":"Mg==","prev_kv":true}`, 200, `"prev_kv":{"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}}`},
		{"/v3/kv/range", `{"key":"YQ=="}`, 200, `"kvs":[{"key":"YQ==","create_revision":"2","mod_revision":"3","version":"2","value":"Mg=="}],"count":"1"}`},
		{"/v3/kv/range", `{"key":"YQ==","sort_order":"DESCEND"}`, 200, `"count":"1"}`},
		{"/v3/kv/range", `{"key":"eA=="}`, 200, `"raft_term":"2"}}`},
		{"/v3/kv/range", `{}`, 400, `{"code":3,"message":"etcdserver: key is not provided"}`},
		{"/v3/kv/range", ``, 400, `"message":"etcdserver: key is not provided"`},
		{"/v3/kv/range", `{"key":"YQ==","revision":"99"}`, 400, `"code":11`},
		{"/v3/kv/range", `{"key":`, 400, `unexpected EOF`},
		{"/v3/kv/put", `{"key":"YQ==","value":1}`, 400, `"code":3`},
		{"/v3/kv/put", `{"key":"YQ==","lease":"5"}`, 404, `{"code":5,"message":"etcdserver: requested lease not found"}`},
		{"/v3/kv/txn", `{"success":[{"request_put":{"key":"Yg=="}}]}`, 200, `"succeeded":true,"responses":[{"response_put":{"header":{"revision":"4"}}}]}`},
		{"/v3/kv/deleterange", `{"key":"Yg=="}`, 200, `"deleted":"1"`},
		{"/v3/kv/compaction", `{"revision":"3"}`, 200, `"header"`},
		{"/v3/lease/grant", `{"TTL":60,"ID":7}`, 200, `"ID":"7","TTL":"60"}`},
		{"/v3/kv/lease/timetolive", `{"ID":7}`, 200, `"grantedTTL":"60"`},
		{"/v3/maintenance/status", `{}`, 200, `"version":"3.7.3"`},
		{"/v3/cluster/member/list", `{}`, 200, `"name":"default"`},
		{"/v3/auth/status", `{}`, 200, `"header"`},
		{"/v3/lock/lock", `{"name":"bA=="}`, 200, `"key":"bC8`},
		{"/v3/election/leader", `{"name":"ZQ=="}`, 500, `{"code":2,"message":"election: no leader"}`},
		{"/v3/nothing", `{}`, 404, `{"code":5,"message":"Not Found"}`},
	} {
		a := f.post(x.path, x.body)
		if a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s", x.path, a.header.Get("Content-Type"))
		}
		if a.code != x.code || !strings.Contains(compact(t, a.body), x.part) {
			t.Errorf("%s %s: %d %s, not %d with %s", x.path, x.body, a.code, a.body, x.code, x.part)
		}
	}
	f.send(http.MethodGet, "/v3/kv/range", "").want(t, 501, `"Method Not Allowed"`)
}

// lines reads an answer line by line, as it comes.
func (f *fixture) lines(client *http.Client, path string, body io.Reader) *bufio.Scanner {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.http.URL+path, body)
	if err != nil {
		f.t.Fatal(err)
	}
	a, err := client.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { a.Body.Close() })
	return bufio.NewScanner(a.Body)
}

func next(t testing.TB, s *bufio.Scanner, part string) {
	t.Helper()
	if !s.Scan() || !strings.Contains(compact(t, s.Text()), part) {
		t.Fatalf("%q %v, not with %s", s.Text(), s.Err(), part)
	}
}

func TestWatch(t *testing.T) {
	f := serve(t)
	s := f.lines(http.DefaultClient, "/v3/watch", strings.NewReader(`{"create_request":{"key":"YQ=="}}`))
	next(t, s, `{"result":{"header":{`)
	f.put("a", "1")
	next(t, s, `"events":[{"kv":{"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}}]}}`)
}

// Requests come while answers go, over both protocols.
func TestBothWaysAtOnce(t *testing.T) {
	f := serve(t)
	two := &http.Transport{Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	for name, client := range map[string]*http.Client{"1.1": {Transport: &http.Transport{}}, "2": {Transport: two}} {
		t.Run(name, func(t *testing.T) {
			defer client.CloseIdleConnections()
			body, asks := io.Pipe()
			go func() { _, _ = io.WriteString(asks, `{"create_request":{"key":"YQ==","watch_id":1}}`) }()
			s := f.lines(client, "/v3/watch", body)
			next(t, s, `"watch_id":"1","created":true`)
			if _, err := io.WriteString(asks, "\n"+`{"create_request":{"key":"Yg==","watch_id":2}}`); err != nil {
				t.Fatal(err)
			}
			next(t, s, `"watch_id":"2","created":true`)
			f.put("b", "1")
			next(t, s, `"watch_id":"2","events"`)
			asks.Close()
			f.put("a", "1")
			next(t, s, `"watch_id":"1","events"`)
		})
	}
}

func TestOtherStreams(t *testing.T) {
	f := serve(t)
	for range 20 {
		f.put("r"+strings.Repeat("x", 10), "1")
	}
	s := f.lines(http.DefaultClient, "/v3/kv/rangestream", strings.NewReader(`{"key":"cg==","range_end":"cw=="}`))
	next(t, s, `{"result":{"range_response":{`)
	f.post("/v3/kv/rangestream", `{"key":3}`).want(t, 400, `"code":3`)
	f.post("/v3/kv/rangestream", `{"key":"cg==","range_end":"cw==","sort_order":"DESCEND"}`).want(t, 501, `"error":`)
	a := f.post("/v3/maintenance/snapshot", `{}`)
	a.want(t, 200, `{"result":{`)
	last := a.body[strings.LastIndex(strings.TrimSpace(a.body), "\n")+1:]
	var end struct {
		Result struct{ Blob []byte }
	}
	if err := json.Unmarshal([]byte(last), &end); err != nil || len(end.Result.Blob) != 32 {
		t.Errorf("the last piece is no hash: %q %v", last, err)
	}
	f.post("/v3/lease/keepalive", `{"ID":"9"}`).want(t, 200, `"ID":"9"}}`)
}

// What no request is large enough for is refused, by its length or when it has come.
func TestBodiesAreBounded(t *testing.T) {
	f := serve(t)
	huge := `{"key":"YQ==","value":"` + strings.Repeat("A", int(f.edge.bodyMax)) + `"}`
	f.post("/v3/kv/put", huge).want(t, 400, `"code":3`)
	f.post("/v3/kv/txn", strings.Repeat("[", int(f.edge.bodyMax)+1)).want(t, 400, `"code":3`)
	large := `{"key":"YQ==","value":"` + strings.Repeat("AAAA", (f.rpcMax()+3)/3) + `"}`
	f.post("/v3/kv/put", large).want(t, 429, `"code":8`)
	f.post("/v3/kv/put", `{"key":"YQ==","value":"`+strings.Repeat("AAAA", 1<<19)+`"}`).want(t, 400, `etcdserver: request is too large`)
	// A stream ends its requests at one that is too large: the lease behind it is never asked about.
	body := io.MultiReader(strings.NewReader(`{"ID":"1"}`), strings.NewReader(strings.Repeat(" ", 2*int(f.edge.bodyMax))), strings.NewReader(`{"ID":"2"}`))
	s := f.lines(http.DefaultClient, "/v3/lease/keepalive", body)
	next(t, s, `"ID":"1"`)
	if s.Scan() {
		t.Errorf("there was more: %s", s.Text())
	}
}

// rpcMax is what a request may have by gRPC.
func (f *fixture) rpcMax() int { return int(f.edge.bodyMax) / bodyFactor }

// A user's certificate is no caller here: such a request is refused while there are users.
func TestCertificatesAreRefused(t *testing.T) {
	users := authState(true)
	named := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}, {{Subject: pkix.Name{CommonName: "tom"}}}}}
	blank := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	for _, x := range []struct {
		tls   *tls.ConnectionState
		asked bool
		users *authState
		code  int
	}{
		{named, true, &users, http.StatusBadRequest},
		{named, false, &users, http.StatusNotFound},
		{named, true, new(authState), http.StatusNotFound},
		{blank, true, &users, http.StatusNotFound},
		{nil, true, &users, http.StatusNotFound},
	} {
		e, err := New(nil, x.users, Options{ClientCertAuth: x.asked})
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/v3/nothing", "/v3beta/nothing"} {
			r := httptest.NewRequest(http.MethodPost, path, nil)
			r.TLS = x.tls
			w := httptest.NewRecorder()
			if e.ServeHTTP(w, r); w.Code != x.code {
				t.Errorf("%+v: %d %s, not %d", x, w.Code, w.Body, x.code)
			}
		}
	}
}

type authState bool

func (a *authState) AuthEnabled() bool { return bool(*a) }

func TestTokens(t *testing.T) {
	f := serve(t)
	for _, body := range []string{
		"role/add {\"name\":\"root\"}", "user/add {\"name\":\"root\",\"password\":\"x\"}", "user/grant {\"user\":\"root\",\"role\":\"root\"}", "enable {}",
	} {
		path, ask, _ := strings.Cut(body, " ")
		f.post("/v3/auth/"+path, ask).want(t, 200, `"header"`)
	}
	var got struct{ Token string }
	if err := json.Unmarshal([]byte(f.post("/v3/auth/authenticate", `{"name":"root","password":"x"}`).body), &got); err != nil || got.Token == "" {
		t.Fatal(got, err)
	}
	const ask, plain = `{"key":"YQ=="}`, `{"key":"YQ==","sort_order":"ASCEND"}`
	for _, body := range []string{ask, plain} {
		f.post("/v3/kv/range", body).want(t, 400, `{"code":3,"message":"etcdserver: user name is empty"}`)
		bad := f.send(http.MethodPost, "/v3/kv/range", body, "Authorization", "nonsense")
		bad.want(t, 401, `{"code":16,"message":"etcdserver: invalid auth token"}`)
		if bad.header.Get("WWW-Authenticate") == "" {
			t.Error("401 does not ask for anything")
		}
		for _, header := range [][2]string{{"Authorization", got.Token}, {"Authorization", "Bearer " + got.Token}, {"Grpc-Metadata-Token", got.Token}} {
			f.send(http.MethodPost, "/v3/kv/range", body, header[0], header[1]).want(t, 200, `"header"`)
		}
	}
	f.send(http.MethodGet, "/v3/keys/a", "").want(t, 400, `"etcdserver: user name is empty"`)
	f.send(http.MethodGet, "/v3/keys/a?wait=true&rev=1", "").want(t, 400, `"etcdserver: user name is empty"`)
	f.send(http.MethodGet, "/v3/keys/a", "", "Authorization", got.Token).want(t, 404, `"code":5`)
}

// A deadline in the headers holds, as it does for gRPC.
func TestTimeoutHeader(t *testing.T) {
	f := serve(t)
	f.post("/v3/lock/lock", `{"name":"bA=="}`).want(t, 200, `"key"`)
	// Long enough to come to where it waits for the lock: before that, the member's own words tell that the time is over.
	f.send(http.MethodPost, "/v3/lock/lock", `{"name":"bA=="}`, "Grpc-Timeout", "2S").want(t, 504, `"code":4`)
	f.send(http.MethodPost, "/v3/kv/put", `{"key":"YQ=="}`, "Grpc-Timeout", "1n").want(t, 504, `"code":4`)
	f.send(http.MethodPost, "/v3/kv/put", `{"key":"YQ=="}`, "Grpc-Timeout", "soon").want(t, 400, `invalid grpc-timeout`)
	f.send(http.MethodPost, "/v3/kv/put", `{"key":"YQ=="}`, "Grpc-Metadata-Hasleader", "true").want(t, 200, `"header"`)
}

// deadlined keeps the write deadlines that are set.
type deadlined struct {
	*httptest.ResponseRecorder
	write []time.Time
}

func (d *deadlined) SetWriteDeadline(at time.Time) error {
	d.write = append(d.write, at)
	return nil
}

// Each write of a stream is bounded anew, and the time between two is not.
func TestWritesAreBounded(t *testing.T) {
	w := &deadlined{ResponseRecorder: httptest.NewRecorder()}
	p := &patient{w, http.NewResponseController(w), writeTime}
	if _, err := p.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := http.NewResponseController(p).Flush(); err != nil {
		t.Fatal(err)
	}
	if len(w.write) != 2 || time.Until(w.write[0]) > writeTime || time.Until(w.write[0]) < writeTime/2 || !w.write[1].IsZero() {
		t.Errorf("%v", w.write)
	}
}

// Who watches and reads nothing is given up, and holds nothing any more.
func TestDeafWatchersAreGivenUp(t *testing.T) {
	f := serve(t)
	f.edge.writeMax = time.Second // a write to who reads must not take that long, with all that holds this process up
	f.lines(http.DefaultClient, "/v3/watch", strings.NewReader(`{"create_request":{"key":"YQ=="}}`))
	c := f.dial("/v3/watch")
	f.say(c, `{"create_request":{"key":"YQ=="}}`)
	f.awaitWatchers(2)
	for range 40 { // far more than sockets hold
		f.put("a", strings.Repeat("x", 1<<20))
	}
	f.awaitWatchers(0)
}

// The log of slow requests names who sent one, whichever way it was served.
func TestSlowLogNamesTheCaller(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	f := serveBy(t, rpc.Options{Logger: zap.New(core), WarnUnary: time.Nanosecond})
	f.post("/v3/kv/range", `{"key":"YQ=="}`).want(t, 200, `"header"`)
	f.post("/v3/kv/txn", `{}`).want(t, 200, `"header"`)
	all := logs.FilterMessage("request stats").All()
	for _, x := range all {
		if remote, _ := x.ContextMap()["remote"].(string); !strings.HasPrefix(remote, "127.0.0.1:") {
			t.Errorf("%v", x.ContextMap())
		}
	}
	if len(all) != 2 {
		t.Errorf("%d lines", len(all))
	}
}
