package jsonapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestKeys(t *testing.T) {
	f := serve(t)
	f.put("a", "1")
	f.put("/registry/x", "two\n")
	f.put("a b/ü%", "")
	f.put("a", "\xff")
	for _, x := range []struct {
		path, known string
		code        int
		etag, body  string
	}{
		{"a", "", 200, `"5"`, "\xff"},
		{"a?rev=2", "", 200, `"2"`, "1"},
		{"/registry/x", "", 200, `"3"`, "two\n"},
		{"%2Fregistry%2Fx", "", 200, `"3"`, "two\n"},
		{"a%20b/%C3%BC%25?serializable=true", "", 200, `"4"`, ""},
		{"a", `"5"`, 304, `"5"`, ""},
		{"a", `"4", W/"5"`, 304, `"5"`, ""},
		{"a", "*", 304, `"5"`, ""},
		{"a", `"4"`, 200, `"5"`, "\xff"},
		{"none", `"4"`, 404, "", `"etcdserver: key not found"`},
		{"", "", 400, "", `"etcdserver: key is not provided"`},
		{"?wait=true&rev=1", "", 400, "", `"etcdserver: key is not provided"`},
		{"a?rev=77", "", 400, "", `required revision is a future revision`},
		{"a?rev=-1", "", 400, "", `rev=-1 in the query`},
		{"a?rev=x", "", 400, "", `rev=x in the query`},
		{"a?wait=maybe", "", 400, "", `wait=maybe`},
		{"a?revision=1", "", 400, "", `there is wait, rev and serializable`},
		{"a?rev=%zz", "", 400, "", `the query`},
	} {
		for _, prefix := range []string{"/v3/keys/", "/v3beta/keys/"} {
			a := f.send(http.MethodGet, prefix+x.path, "", "If-None-Match", x.known)
			if a.code != x.code || a.header.Get("ETag") != x.etag || !strings.Contains(compactIf(t, a), x.body) {
				t.Errorf("%s%s: %d %q %q, not %+v", prefix, x.path, a.code, a.header.Get("ETag"), a.body, x)
			}
			if x.code == 200 && (a.body != x.body || a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("X-Etcd-Revision") != "5") {
				t.Errorf("%s: %q %v", x.path, a.body, a.header)
			}
		}
	}
	if a := f.send(http.MethodHead, "/v3/keys/a", ""); a.code != 200 || a.header.Get("Content-Length") != "1" || a.body != "" {
		t.Error(a)
	}
	f.send(http.MethodPut, "/v3/keys/a", "x").want(t, 404, `"code":5`)
	f.post("/v3/keys/a", "x").want(t, 404, `"code":5`)
}

// compactIf is the body, without the blanks of JSON where it is an error's.
func compactIf(t *testing.T, a answer) string {
	if a.code >= 400 {
		return compact(t, a.body)
	}
	return a.body
}

// A wait answers the first change that its caller does not know, none is passed over, and a deletion is one.
func TestKeysWait(t *testing.T) {
	f := serve(t)
	f.put("a", "1")
	f.put("b", "1")
	f.put("a", "2")
	for path, want := range map[string]string{
		"/v3/keys/a?wait=true&rev=1": `200 "2" 2 1`, "/v3/keys/a?wait=true&rev=2": `200 "2" 2 1`, "/v3/keys/a?wait=true&rev=3": `200 "4" 4 2`,
	} {
		if a := f.send(http.MethodGet, path, ""); fmt.Sprint(a.code, " ", a.header.Get("ETag"), " ", a.header.Get("X-Etcd-Revision"), " ", a.body) != want {
			t.Errorf("%s: %v", path, a)
		}
	}
	if a := f.send(http.MethodGet, "/v3/keys/a?wait=true", "", "If-None-Match", `"2"`); a.code != 200 || a.body != "2" {
		t.Errorf("a value that is not known: %v", a)
	}
	f.awaitWatchers(0) // those of the waits above end behind their answers
	for _, conditional := range []bool{false, true} {
		known := ""
		if rev := f.put("a", "now"); conditional {
			known = etag(rev)
		}
		got := make(chan answer)
		go func() {
			defer close(got) // without an answer too
			got <- f.send(http.MethodGet, "/v3/keys/a?wait=true", "", "If-None-Match", known)
		}()
		f.awaitWatchers(1)
		f.put("b", "2")
		rev := f.put("a", "later")
		if a := <-got; a.code != 200 || a.body != "later" || a.header.Get("ETag") != etag(rev) {
			t.Errorf("known %q: %v", known, a)
		}
		f.awaitWatchers(0)
	}
	if _, err := f.member.Compact(t.Context(), &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.member.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	now := f.send(http.MethodGet, "/v3/keys/a", "")
	gone := now.header.Get("X-Etcd-Revision")
	if a := f.send(http.MethodGet, "/v3/keys/a?wait=true&rev="+gone, ""); a.code != 404 || a.header.Get("X-Etcd-Revision") != gone {
		t.Errorf("a deletion: %v", a)
	}
	f.send(http.MethodGet, "/v3/keys/a?wait=true&rev=2", "").want(t, 400, `required revision has been compacted`)
}

// A wait that nothing ends is answered all the same, and its watcher is gone.
func TestKeysWaitEnds(t *testing.T) {
	f := serve(t)
	f.put("a", "1")
	f.edge.waitMax = 20 * time.Millisecond
	for _, known := range []string{"", `"2"`} {
		if a := f.send(http.MethodGet, "/v3/keys/a?wait=true", "", "If-None-Match", known); a.code != 304 || a.body != "" {
			t.Errorf("known %q: %v", known, a)
		}
	}
	f.awaitWatchers(0)
}

// Paths and queries from anybody name a key, or are refused as what can't be.
func FuzzAsked(f *testing.F) {
	for _, path := range []string{"a", "", "/a//b", "%2F%00%ff", "a?rev=1&wait=true", "a?wait=1;rev=2", "a?rev=9223372036854775808", "a?serializable"} {
		f.Add(path, `"1", W/"2"`)
	}
	f.Fuzz(func(t *testing.T, path, known string) {
		u, err := url.Parse("http://x/v3/keys/" + path)
		if err != nil {
			return
		}
		q, err := asked(&http.Request{URL: u, Header: http.Header{"If-None-Match": {known}}})
		switch {
		case err != nil && status.Code(err) != codes.InvalidArgument:
			t.Fatal(err)
		case err == nil && (string(q.key) != strings.TrimPrefix(u.Path, "/v3/keys/") || q.rev < 0):
			t.Fatalf("%q: %+v", path, q)
		}
		if err == nil {
			q.knows(1)
		}
	})
}
