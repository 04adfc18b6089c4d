package jsonapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/edge/rpc"
	"keelson/internal/kit/listen"
	"keelson/internal/server"
	"keelson/test/solo"
)

// patience is far above what any step here takes.
const patience = time.Minute

// fixture is a member of a cluster of one with its edge, served over HTTP/1.1 and HTTP/2.
type fixture struct {
	t      testing.TB
	member *server.Member
	rpc    *rpc.Server
	edge   *Edge
	http   *httptest.Server
}

func serve(t testing.TB) *fixture { return serveBy(t, rpc.Options{}) }

func serveBy(t testing.TB, o rpc.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, member: solo.Start(t)}
	f.rpc = rpc.NewServer(f.member, o)
	var err error
	f.edge, err = New(f.rpc.InProcess(), f.member, Options{MaxRequestBytes: 3 << 19, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	f.http = httptest.NewUnstartedServer(listen.Bound(f.edge))
	f.http.Config.Protocols = new(http.Protocols)
	f.http.Config.Protocols.SetHTTP1(true)
	f.http.Config.Protocols.SetUnencryptedHTTP2(true)
	f.http.Start()
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) stop() {
	f.rpc.Stop()
	f.rpc.Close()
	f.http.CloseClientConnections()
	f.http.Close()
	f.edge.Wait()
}

// answer is what a request brought.
type answer struct {
	code   int
	header http.Header
	body   string
}

// send makes a request with headers, given as names and values in turn.
func (f *fixture) send(method, path, body string, header ...string) answer {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, f.http.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer{a.StatusCode, a.Header, string(text)}
}

func (f *fixture) post(path, body string) answer {
	f.t.Helper()
	return f.send(http.MethodPost, path, body)
}

func (f *fixture) put(key, value string) int64 {
	f.t.Helper()
	r, err := f.member.Put(f.t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Header.Revision
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// compact takes the blanks out of JSON, which protobuf strews at random.
func compact(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return b.String()
}

// want holds an answer to a code, and to a part of its body.
func (a answer) want(t testing.TB, code int, part string) {
	t.Helper()
	if a.code != code || !strings.Contains(strings.ReplaceAll(a.body, `, "`, `,"`), part) && !strings.Contains(a.body, part) {
		t.Errorf("%d %s, not %d with %s", a.code, a.body, code, part)
	}
}

// awaitWatchers returns when just so many watchers are there.
func (f *fixture) awaitWatchers(n int) {
	f.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		_, watchers, _, _ := f.member.Watch().Stats()
		if watchers == n {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			f.t.Fatalf("%d watchers, not %d", watchers, n)
		}
	}
}
