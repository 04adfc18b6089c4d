package compat

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// v2Identity is somebody who calls the v2 API; no user: a guest.
type v2Identity struct{ what, user, password string }

func v2Identities() []v2Identity {
	return []v2Identity{
		{what: "a guest"}, {"a user without a role", "none", "none"}, {"a reader", "reader", "reader"}, {"a writer of another range", "writer", "writer"},
		{"root", "root", "root"}, {"a wrong password", "root", "reader"}, {"an unknown user", "nobody", "none"}, {"no password", "reader", ""},
	}
}

// v2Call is a request of the table. Of what is not the same on two clusters only the code is compared.
type v2Call struct {
	method, path, body string
	apart              bool
}

func v2Calls() []v2Call {
	return []v2Call{
		{method: "GET", path: "/v2/keys/r/a"}, {method: "HEAD", path: "/v2/keys/r/a"}, {method: "GET", path: "/v2/keys/r?sorted=true"}, {method: "GET", path: "/v2/keys/r/?sorted=true"},
		{method: "GET", path: "/v2/keys/r/?recursive=true&sorted=true"}, {method: "GET", path: "/v2/keys/?recursive=true&sorted=true"},
		{method: "GET", path: "/v2/keys/r/a?quorum=true"}, {method: "GET", path: "/v2/keys/r/a?recursive=true"}, {method: "GET", path: "/v2/keys/open"},
		{method: "GET", path: "/v2/keys/open?recursive=true"}, {method: "GET", path: "/v2/keys/missing"}, {method: "GET", path: "/v2/keys/w/a"},
		{method: "GET", path: "/v2/keys/r/a?wait=true&waitIndex=INDEX"}, {method: "GET", path: "/v2/keys/r/?wait=true&recursive=true&waitIndex=INDEX"},
		{method: "PUT", path: "/v2/keys/r/a", body: "value=2"}, {method: "PUT", path: "/v2/keys/w/a", body: "value=2"}, {method: "PUT", path: "/v2/keys/open", body: "value=2"},
		{method: "PUT", path: "/v2/keys/w/a?prevValue=2", body: "value=3"}, {method: "PUT", path: "/v2/keys/w/b?prevExist=false", body: "value=3&ttl=1000"},
		{method: "PUT", path: "/v2/keys/w/b?prevExist=true", body: "refresh=true&ttl=1000"}, {method: "PUT", path: "/v2/keys/w/d", body: "dir=true"},
		{method: "POST", path: "/v2/keys/w/q", body: "value=4"}, {method: "POST", path: "/v2/keys/r", body: "value=4"},
		{method: "DELETE", path: "/v2/keys/w/a?prevValue=nope"}, {method: "DELETE", path: "/v2/keys/w/b"}, {method: "DELETE", path: "/v2/keys/w/d?dir=true"},
		{method: "DELETE", path: "/v2/keys/w/q?recursive=true"}, {method: "DELETE", path: "/v2/keys/w?recursive=true"}, {method: "DELETE", path: "/v2/keys/r?recursive=true"},
		{method: "PUT", path: "/v2/keys/r/a", body: "value=1"}, {method: "PUT", path: "/v2/keys/w/a", body: "value=1"},
		{method: "GET", path: "/v2/members", apart: true}, {method: "GET", path: "/v2/members/leader", apart: true}, {method: "POST", path: "/v2/members", body: "{}"},
		{method: "PUT", path: "/v2/members/abc", body: "{}"}, {method: "DELETE", path: "/v2/members/abc"}, {method: "GET", path: "/v2/machines", apart: true},
		{method: "GET", path: "/v2/stats/self", apart: true}, {method: "GET", path: "/v2/stats/store", apart: true}, {method: "GET", path: "/v2/stats/leader", apart: true},
		{method: "GET", path: "/v2/auth/enable"}, {method: "GET", path: "/v2/auth/users"}, {method: "GET", path: "/v2/auth/users/reader"}, {method: "GET", path: "/v2/auth/users/none"},
		{method: "GET", path: "/v2/auth/roles"}, {method: "GET", path: "/v2/auth/roles/reads"}, {method: "GET", path: "/v2/auth/roles/nope"}, {method: "GET", path: "/v2/auth/roles/a/b"},
		{method: "PUT", path: "/v2/auth/users/new", body: `{"user":"new","password":"new","roles":["reads"]}`}, {method: "PUT", path: "/v2/auth/users/none", body: `{"user":"none","grant":["reads"]}`},
		{method: "PUT", path: "/v2/auth/users/none", body: `{"user":"none","revoke":["reads"]}`}, {method: "DELETE", path: "/v2/auth/users/new"}, {method: "DELETE", path: "/v2/auth/users/root"},
		{method: "PUT", path: "/v2/auth/roles/new", body: `{"role":"new","permissions":{"kv":{"read":["/x"],"write":[]}}}`},
		{method: "PUT", path: "/v2/auth/roles/new", body: `{"role":"new","grant":{"kv":{"write":["/x*"]}}}`}, {method: "PUT", path: "/v2/auth/roles/new", body: `{"role":"new","revoke":{"kv":{"read":["/x"]}}}`},
		{method: "PUT", path: "/v2/auth/roles/root", body: `{"role":"root"}`}, {method: "DELETE", path: "/v2/auth/roles/new"},
		{method: "POST", path: "/v2/auth/users", body: "{}"}, {method: "PUT", path: "/v2/auth/enable"}, {method: "DELETE", path: "/v2/auth/enable"},
	}
}

// v2Realm is a member with v2 users.
type v2Realm struct {
	t     *testing.T
	m     *process.Member
	index string // of the first write of /r/a
}

// do makes a call and gives the code and what two clusters must agree on.
func (r *v2Realm) do(who v2Identity, c v2Call) string {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), c.method, r.m.ClientURL()+strings.Replace(c.path, "INDEX", r.index, 1), strings.NewReader(c.body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if strings.HasPrefix(c.path, "/v2/members") {
		req.Header.Set("Content-Type", "application/json")
	}
	if who.user != "" {
		req.SetBasicAuth(who.user, who.password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if c.apart && resp.StatusCode == http.StatusOK {
		body = nil
	}
	return fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("Content-Type"), v2Apart(string(body)))
}

var v2Numbers = regexp.MustCompile(`"(createdIndex|modifiedIndex|index|ttl)":\d+|"expiration":"[^"]*"|\d{20}`)

// v2Apart takes out what differs between two clusters.
func v2Apart(body string) string { return v2Numbers.ReplaceAllString(body, "N") }

// found makes the keys, users and roles.
func (r *v2Realm) found() {
	r.t.Helper()
	nobody := v2Identity{}
	for _, c := range []v2Call{
		{method: "PUT", path: "/v2/keys/r/a", body: "value=1"}, {method: "PUT", path: "/v2/keys/r/b/c", body: "value=1"}, {method: "PUT", path: "/v2/keys/w/a", body: "value=1"},
		{method: "PUT", path: "/v2/keys/open", body: "value=1"},
		{method: "PUT", path: "/v2/auth/roles/reads", body: `{"role":"reads","permissions":{"kv":{"read":["/r/*","/open"]}}}`},
		{method: "PUT", path: "/v2/auth/roles/writes", body: `{"role":"writes","permissions":{"kv":{"read":["/w/*"],"write":["/w/*","/w"]}}}`},
		{method: "PUT", path: "/v2/auth/users/none", body: `{"user":"none","password":"none"}`},
		{method: "PUT", path: "/v2/auth/users/reader", body: `{"user":"reader","password":"reader","roles":["reads"]}`},
		{method: "PUT", path: "/v2/auth/users/writer", body: `{"user":"writer","password":"writer","roles":["writes"]}`},
		{method: "PUT", path: "/v2/auth/users/root", body: `{"user":"root","password":"root"}`},
		{method: "PUT", path: "/v2/auth/enable"},
	} {
		if a := r.do(nobody, c); !strings.HasPrefix(a, "20") {
			r.t.Fatalf("%s %s: %s", c.method, c.path, a)
		}
	}
	resp, err := http.Get(r.m.ClientURL() + "/v2/keys/r/a")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	m := regexp.MustCompile(`"createdIndex":(\d+)`).FindSubmatch(body)
	if err != nil || m == nil {
		r.t.Fatalf("%s: %v", body, err)
	}
	r.index = string(m[1])
}

// held shows keys, users and roles, as root sees them.
func (r *v2Realm) held() string {
	root := v2Identity{"root", "root", "root"}
	var b strings.Builder
	for _, p := range []string{"/v2/keys/?recursive=true&sorted=true", "/v2/auth/users", "/v2/auth/roles", "/v2/auth/enable"} {
		fmt.Fprintln(&b, r.do(root, v2Call{method: "GET", path: p}))
	}
	return b.String()
}

// Every sort of caller gets from every call of v2 what etcd 3.4 gives, and changes what it changes there, while v2's own auth is
// enabled: with guests who may do everything, as at first, and with guests who may read one key.
func TestV2Identities(t *testing.T) {
	for _, guests := range []string{"free", "limited"} {
		t.Run("guests "+guests, func(t *testing.T) {
			t.Parallel()
			var realms []*v2Realm
			for _, p := range []process.Program{ours(t), stock(t, "etcd34")} {
				r := &v2Realm{t: t, m: process.Single(t, p, "", "--enable-v2").Serve()}
				r.found()
				if guests == "limited" {
					root := v2Identity{"root", "root", "root"}
					r.do(root, v2Call{method: "PUT", path: "/v2/auth/roles/guest", body: `{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}},"grant":{"kv":{"read":["/open"]}}}`})
				}
				realms = append(realms, r)
			}
			who := v2Identities()
			if guests == "free" {
				who = who[:1] // what guests may is nothing to the others
			}
			table(t, realms[0], realms[1], who)
		})
	}
}

// table makes every call as everybody. What is held is compared after each call that was answered well, and at each one's end.
func table(t *testing.T, own, real *v2Realm, everybody []v2Identity) {
	t.Helper()
	before := own.held()
	for _, who := range everybody {
		for _, c := range v2Calls() {
			name := fmt.Sprintf("%s: %s %s %s", who.what, c.method, c.path, c.body)
			got, want := own.do(who, c), real.do(who, c)
			if got != want {
				t.Errorf("%s\ngot  %s\nwant %s", name, got, want)
			}
			if c.method == "GET" || c.method == "HEAD" || got[0] != '2' && want[0] != '2' {
				continue
			}
			if now, there := own.held(), real.held(); now != there {
				t.Fatalf("%s leaves\n%s\nat 3.4\n%s", name, now, there)
			} else {
				before = now
			}
			if c.path == "/v2/auth/enable" && c.method == "DELETE" {
				again := v2Call{method: "PUT", path: "/v2/auth/enable"}
				own.do(who, again)
				real.do(who, again)
				before = own.held()
			}
		}
		if now, there := own.held(), real.held(); now != before || there != before {
			t.Fatalf("%s: something changed by calls that were refused\n%s\nat 3.4\n%s\nbefore\n%s", who.what, now, there, before)
		}
	}
}

// v3Realm makes users of v3 with the names of the identities, who may read and write below v2's prefix what these may, enables
// auth, and gives root's client.
func v3Realm(t *testing.T, m *process.Member) *clientv3.Client {
	t.Helper()
	c := m.Client()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range []string{"root", "none", "reader", "writer"} {
		must(c.UserAdd(t.Context(), u, u))
	}
	for _, role := range []string{"root", "reader", "writer"} {
		must(c.RoleAdd(t.Context(), role))
		must(c.UserGrantRole(t.Context(), role, role))
	}
	must(c.RoleGrantPermission(t.Context(), "reader", "/_v2/keys/r", "/_v2/keys/s", clientv3.PermissionType(clientv3.PermRead)))
	must(c.RoleGrantPermission(t.Context(), "writer", "/_v2/keys/w", "/_v2/keys/x", clientv3.PermissionType(clientv3.PermReadWrite)))
	must(c.AuthEnable(t.Context()))
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{m.ClientAddr}, Username: "root", Password: "root", DialTimeout: process.Patience})
	must(nil, err)
	t.Cleanup(func() { root.Close() })
	return root
}

// v2Forbidden are calls that v3's rules do not let the identities make, but for those in v2Allowed.
func v2Forbidden() []v2Call {
	return []v2Call{
		{method: "GET", path: "/v2/keys/r/a"}, {method: "GET", path: "/v2/keys/r?recursive=true"}, {method: "GET", path: "/v2/keys/?recursive=true"},
		{method: "GET", path: "/v2/keys/other?wait=true&waitIndex=1"}, {method: "GET", path: "/v2/keys/other?wait=true&waitIndex=1&stream=true"},
		{method: "PUT", path: "/v2/keys/w/a", body: "value=2"}, {method: "PUT", path: "/v2/keys/other", body: "value=2"}, {method: "POST", path: "/v2/keys/q", body: "value=2"},
		{method: "DELETE", path: "/v2/keys/other?prevValue=1"}, {method: "DELETE", path: "/v2/keys/r?recursive=true"},
		{method: "POST", path: "/v2/members", body: `{"peerURLs":["http://127.0.0.1:1"]}`}, {method: "DELETE", path: "/v2/members/1"},
		{method: "GET", path: "/v2/auth/users"}, {method: "GET", path: "/v2/auth/users/x"}, {method: "GET", path: "/v2/auth/roles"}, {method: "GET", path: "/v2/auth/roles/guest"},
		{method: "PUT", path: "/v2/auth/users/x", body: `{"user":"x","password":"x"}`}, {method: "DELETE", path: "/v2/auth/users/x"},
		{method: "PUT", path: "/v2/auth/roles/x", body: `{"role":"x"}`}, {method: "PUT", path: "/v2/auth/enable"}, {method: "DELETE", path: "/v2/auth/enable"},
	}
}

func v2Allowed(who v2Identity) []string {
	return map[string][]string{
		"a reader":                  {"GET /v2/keys/r/a", "GET /v2/keys/r?recursive=true"},
		"a writer of another range": {"PUT /v2/keys/w/a"},
	}[who.what]
}

// While v3's auth is enabled no call of v2 gets by it: each caller reads and changes below the prefix what v3's rules let that
// user, and nobody else anything. v2's own users count besides.
func TestV2UnderV3Auth(t *testing.T) {
	t.Parallel()
	m := process.Single(t, ours(t), "", "--enable-v2").Serve()
	r := &v2Realm{t: t, m: m}
	for _, p := range []string{"/r/a", "/w/a", "/other"} {
		r.do(v2Identity{}, v2Call{method: "PUT", path: "/v2/keys" + p, body: "value=1"})
	}
	c := v3Realm(t, m)
	revision := func() int64 {
		all, err := c.Get(t.Context(), "/", clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return all.Header.Revision
	}
	root := v2Identity{"root", "root", "root"}
	for _, who := range v2Identities() {
		if who == root {
			continue
		}
		for _, call := range v2Forbidden() {
			name := call.method + " " + call.path
			may := slices.Contains(v2Allowed(who), name)
			before := revision()
			got := r.do(who, call)
			if ok := strings.HasPrefix(got, "20"); ok != may || !ok && !strings.HasPrefix(got, "401") {
				t.Errorf("%s: %s: %s", who.what, name, got)
			}
			if !may && revision() != before {
				t.Errorf("%s: %s changed the keys", who.what, name)
			}
		}
	}
	for _, call := range []v2Call{{method: "PUT", path: "/v2/auth/users/root", body: `{"user":"root","password":"root"}`}, {method: "PUT", path: "/v2/auth/enable"}} {
		if got := r.do(root, call); !strings.HasPrefix(got, "20") {
			t.Errorf("%s %s: %s", call.method, call.path, got)
		}
	}
	for _, who := range v2Identities() {
		got := r.do(who, v2Call{method: "GET", path: "/v2/keys/r/a"})
		if ok := strings.HasPrefix(got, "200"); ok != (who == root) {
			t.Errorf("with both: %s: %s", who.what, got)
		}
	}
}
