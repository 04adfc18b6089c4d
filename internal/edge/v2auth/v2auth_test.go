package v2auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/server"
	"keelson/internal/state/v2auth"
	"keelson/internal/state/v2tree"
	"keelson/test/solo"
)

// place is an edge above a member of its own.
type place struct {
	*testing.T
	member *server.Member
	*Edge
	http http.Handler
}

func newPlace(t *testing.T) *place {
	t.Helper()
	m := solo.Start(t)
	e := New(m, Options{
		Prefix: v2tree.DefaultPrefix, Timeout: time.Minute, ClientCertAuth: true,
		Caller: func(ctx context.Context, _ *http.Request) (context.Context, error) { return ctx, nil },
	})
	return &place{t, m, e, e.Handler()}
}

// request makes a request as root; user "" makes it nobody's.
func request(method, path, user, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if user != "" {
		r.SetBasicAuth(user, user)
	}
	return r
}

// ask gives the code and the body of an answer.
func (p *place) ask(method, path, user, body string) (int, string) {
	w := httptest.NewRecorder()
	p.http.ServeHTTP(w, request(method, path, user, body))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func (p *place) must(method, path, user, body string) {
	p.Helper()
	if code, text := p.ask(method, path, user, body); code > 201 {
		p.Fatalf("%s %s: %d %s", method, path, code, text)
	}
}

// enabled makes a user of each name, root among them, with roles that have their own names, and enables auth.
func (p *place) enabled(names ...string) {
	p.Helper()
	for _, n := range append(names, v2auth.Root) {
		p.must("PUT", "/v2/auth/users/"+n, "", fmt.Sprintf(`{"user":%q,"password":%q,"roles":[%q]}`, n, n, n))
	}
	p.must("PUT", "/v2/auth/enable", "", "")
}

// Who changes one user at the same time as others loses nothing of theirs.
func TestChangesAtOnce(t *testing.T) {
	p := newPlace(t)
	p.must("PUT", "/v2/auth/users/u", "", `{"user":"u","password":"u"}`)
	const many = 20
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			if code, text := p.ask("PUT", "/v2/auth/users/u", "", fmt.Sprintf(`{"user":"u","grant":["r%d"]}`, i)); code != http.StatusOK {
				t.Errorf("%d %s", code, text)
			}
		})
	}
	all.Wait()
	u, err := p.records().user("u")
	if err != nil || len(u.Roles) != many {
		t.Errorf("%+v, %v", u, err)
	}
	if strings.Contains(u.Password, "u,") || !strings.HasPrefix(u.Password, "$2a$04$") {
		t.Errorf("the password is kept as %q", u.Password)
	}
}

// Root is deleted or auth enabled, not both, however close they come.
func TestEnabledWithRoot(t *testing.T) {
	p := newPlace(t)
	for range 10 {
		p.must("PUT", "/v2/auth/users/root", "", `{"user":"root","password":"root"}`)
		var both sync.WaitGroup
		codes := make([]int, 2)
		both.Go(func() { codes[0], _ = p.ask("DELETE", "/v2/auth/users/root", "", "") })
		both.Go(func() { codes[1], _ = p.ask("PUT", "/v2/auth/enable", "", "") })
		both.Wait()
		on, err := p.records().enabled()
		root, rerr := p.records().user(v2auth.Root)
		if err != nil || rerr != nil || on && root == nil {
			t.Fatalf("%v: enabled %v, root %v, %v %v", codes, on, root, err, rerr)
		}
		if on {
			p.must("DELETE", "/v2/auth/enable", "root", "")
		}
	}
}

func TestGuard(t *testing.T) {
	p := newPlace(t)
	p.must("PUT", "/v2/auth/roles/reader", "", `{"role":"reader","permissions":{"kv":{"read":["/a/*"]}}}`)
	if !p.MayKeys(request("GET", "/v2/keys/x", "", ""), "/x", true, true) || !p.MayAdmin(request("PUT", "/v2/members/1", "", "")) {
		t.Error("refused while auth is not enabled")
	}
	p.enabled("reader")
	p.must("DELETE", "/v2/auth/roles/guest", "root", "")
	for _, c := range []struct {
		url, path, user  string
		write, recursive bool
		want             bool
	}{
		{"/a/b", "/a/b", "reader", false, true, true}, {"/a/b", "/a/b", "reader", true, false, false}, {"/a", "/a", "reader", false, false, false},
		{"/a/", "/a", "reader", false, true, true}, {"/a/", "/b", "reader", false, false, false}, {"/b/../a/x", "/a/x", "reader", false, false, false},
		{"/x", "/x", "root", true, true, true}, {"/x", "/x", "", false, false, false}, {"/a/b", "/a/b", "nobody", false, false, false},
	} {
		if got := p.MayKeys(request("GET", "/v2/keys"+c.url, c.user, ""), c.path, c.write, c.recursive); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	bad := request("GET", "/v2/keys/a/b", "", "")
	bad.Header.Set("Authorization", "Bearer x")
	if p.MayKeys(bad, "/a/b", false, false) {
		t.Error("credentials of another sort count as none")
	}
	by := func(name string) *http.Request {
		r := request("PUT", "/v2/members/1", "", "")
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}, {{Subject: pkix.Name{CommonName: name}}}}}
		return r
	}
	if !p.MayAdmin(by("root")) || p.MayAdmin(by("reader")) || p.MayAdmin(by("nobody")) || !p.MayKeys(by("reader"), "/a/b", false, false) {
		t.Error("certificates count for something else")
	}
	if !p.MayAdmin(request("GET", "/v2/members", "", "")) || p.MayAdmin(request("DELETE", "/v2/members/1", "reader", "")) {
		t.Error("members")
	}
}

// A record that somebody wrote by v3 and that is none of ours refuses, and never lets in.
func TestForeignRecords(t *testing.T) {
	p := newPlace(t)
	p.enabled("u")
	for _, name := range []string{v2auth.Users + "u", v2auth.Roles + "guest"} {
		key := []byte(v2tree.Prefix(v2tree.DefaultPrefix).Auth(name))
		if _, err := p.member.Put(t.Context(), &pb.PutRequest{Key: key, Value: []byte("{")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"", "u"} {
		if p.MayKeys(request("GET", "/v2/keys/a", user, ""), "/a", false, false) {
			t.Errorf("%q may read", user)
		}
	}
	for _, path := range []string{"users", "users/u", "roles", "roles/guest"} {
		if code, _ := p.ask("GET", "/v2/auth/"+path, "root", ""); code != http.StatusInternalServerError {
			t.Errorf("%s: %d", path, code)
		}
	}
}

// A body is read up to its bound.
func TestBodyBound(t *testing.T) {
	p := newPlace(t)
	body := `{"user":"u","password":"` + strings.Repeat("x", bodyBytesMax) + `"}`
	if code, text := p.ask("PUT", "/v2/auth/users/u", "", body); code != http.StatusBadRequest || !strings.Contains(text, "Invalid JSON") {
		t.Errorf("%d %s", code, text)
	}
}
