package v2http

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/clock"
	"keelson/internal/server"
	"keelson/internal/state/v2tree"
	"keelson/test/solo"
)

// place is an edge above a member of its own.
type place struct {
	t      testing.TB
	member *server.Member
	edge   *Edge
	http   http.Handler
}

// newPlace starts a member and an edge above it; both end with the test.
func newPlace(t testing.TB, change func(*Options)) *place {
	t.Helper()
	p := &place{t: t, member: solo.Start(t)}
	p.serve(change)
	t.Cleanup(func() { p.edge.Close() })
	return p
}

// serve makes the edge.
func (p *place) serve(change func(*Options)) {
	o := Options{Prefix: v2tree.DefaultPrefix, Timeout: time.Minute, Clock: clock.System, Name: "solo"}
	if change != nil {
		change(&o)
	}
	p.edge = New(p.member, o)
	p.http = p.edge.Handler()
}

// ask sends one request, whose form is text such as "value=x&ttl=5".
func (p *place) ask(method, target, form string, more ...func(*http.Request)) *httptest.ResponseRecorder {
	p.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form))
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, f := range more {
		f(r)
	}
	w := httptest.NewRecorder()
	p.http.ServeHTTP(w, r)
	return w
}

// want asks, and compares status and body; a % in the body stands for any text.
func (p *place) want(status int, body, method, target, form string, more ...func(*http.Request)) {
	p.t.Helper()
	w := p.ask(method, target, form, more...)
	got := strings.TrimSuffix(w.Body.String(), "\n")
	if w.Code != status || !matches(got, body) {
		p.t.Errorf("%s %s %s: %d %s\nnot %d %s", method, target, form, w.Code, got, status, body)
	}
}

func matches(text, pattern string) bool {
	parts := strings.Split(pattern, "%")
	if len(parts) == 1 {
		return text == pattern
	}
	if !strings.HasPrefix(text, parts[0]) || !strings.HasSuffix(text, parts[len(parts)-1]) {
		return false
	}
	for _, part := range parts[:len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}

// The answers are those that etcd 3.4.23 gave to the same requests.
func TestKeys(t *testing.T) {
	p := newPlace(t, nil)
	p.want(201, `{"action":"set","node":{"key":"/a","value":"1","modifiedIndex":2,"createdIndex":2}}`, "PUT", "/v2/keys/a", "value=1")
	p.want(200, `{"action":"set","node":{"key":"/a","value":"2","modifiedIndex":3,"createdIndex":3},"prevNode":{"key":"/a","value":"1","modifiedIndex":2,"createdIndex":2}}`, "PUT", "/v2/keys/a", "value=2")
	p.want(200, `{"action":"get","node":{"key":"/a","value":"2","modifiedIndex":3,"createdIndex":3}}`, "GET", "/v2/keys/a", "")
	p.want(404, `{"errorCode":100,"message":"Key not found","cause":"/b","index":3}`, "GET", "/v2/keys/b/c", "")
	p.want(400, `{"errorCode":104,"message":"Not a directory","cause":"/a","index":3}`, "GET", "/v2/keys/a/c", "")
	p.want(412, `{"errorCode":101,"message":"Compare failed","cause":"[x != 2] [9 != 3]","index":3}`, "PUT", "/v2/keys/a?prevValue=x&prevIndex=9", "value=3")
	p.want(200, `{"action":"compareAndSwap","node":{"key":"/a","value":"3","modifiedIndex":4,"createdIndex":3},"prevNode":{%}}`, "PUT", "/v2/keys/a?prevIndex=3", "value=3")
	p.want(412, `{"errorCode":105,"message":"Key already exists","cause":"/a","index":4}`, "PUT", "/v2/keys/a?prevExist=false", "value=3")
	p.want(200, `{"action":"update"}`, "PUT", "/v2/keys/a?prevExist=true&noValueOnSuccess=true", "value=4")
	p.want(201, `{"action":"create","node":{"key":"/q/00000000000000000006","value":"j","modifiedIndex":6,"createdIndex":6}}`, "POST", "/v2/keys/q", "value=j")
	p.want(200, `{"action":"get","node":{"dir":true,"nodes":[{"key":"/a",%},{"key":"/q","dir":true,"nodes":[{"key":"/q/00000000000000000006",%}],"modifiedIndex":6,"createdIndex":6}]}}`, "GET", "/v2/keys?recursive=true&sorted=true&quorum=true", "")
	p.want(403, `{"errorCode":102,"message":"Not a file","cause":"/q","index":6}`, "DELETE", "/v2/keys/q", "")
	p.want(403, `{"errorCode":108,"message":"Directory not empty","cause":"/q","index":6}`, "DELETE", "/v2/keys/q?dir=true", "")
	p.want(200, `{"action":"delete","node":{"key":"/q","dir":true,"modifiedIndex":7,"createdIndex":6},"prevNode":{"key":"/q","dir":true,"modifiedIndex":6,"createdIndex":6}}`, "DELETE", "/v2/keys/q?recursive=true", "")
	p.want(200, `{"action":"compareAndDelete","node":{"key":"/a","modifiedIndex":8,"createdIndex":3},"prevNode":{"key":"/a","value":"4",%}}`, "DELETE", "/v2/keys/a?prevValue=4", "")
	p.want(400, `{"errorCode":107,"message":"Root is read only","cause":"/","index":8}`, "PUT", "/v2/keys/", "value=x")
	p.want(201, `{"action":"set","node":{"key":"/_h","value":"x",%}}`, "PUT", "/v2/keys/_h", "value=x")
	p.want(200, `{"action":"get","node":{"dir":true}}`, "GET", "/v2/keys/", "")
	p.want(405, `Method Not Allowed`, "PATCH", "/v2/keys/a", "")
	p.want(404, `404 page not found`, "GET", "/v2/keysx", "")
}

func TestFormMistakes(t *testing.T) {
	p := newPlace(t, nil)
	for query, want := range map[string]string{
		"prevIndex=x":              `{"errorCode":203,"message":"The given index in POST form is not a number","cause":"invalid value for \"prevIndex\"","index":0}`,
		"waitIndex=":               `{"errorCode":203,"message":"The given index in POST form is not a number","cause":"invalid value for \"waitIndex\"","index":0}`,
		"sorted=x":                 `{"errorCode":209,"message":"Invalid field","cause":"invalid value for \"sorted\"","index":0}`,
		"wait=true":                `{"errorCode":209,"message":"Invalid field","cause":"\"wait\" can only be used with GET requests","index":0}`,
		"prevValue=":               `{"errorCode":201,"message":"PrevValue is Required in POST form","cause":"\"prevValue\" cannot be empty","index":0}`,
		"ttl=x":                    `{"errorCode":202,"message":"The given TTL in POST form is not a number","cause":"invalid value for \"ttl\"","index":0}`,
		"prevExist=x":              `{"errorCode":209,"message":"Invalid field","cause":"invalid value for prevExist","index":0}`,
		"refresh=x":                `{"errorCode":209,"message":"Invalid field","cause":"invalid value for refresh","index":0}`,
		"refresh=true&value=x":     `{"errorCode":211,"message":"Value provided on refresh","cause":"A value was provided on a refresh","index":0}`,
		"refresh=true":             `{"errorCode":212,"message":"A TTL must be provided on refresh","cause":"No TTL value set","index":0}`,
		"ttl=x&prevIndex=x&dir=x":  `{"errorCode":203,%}`,
		"refresh=true&prevExist=x": `{"errorCode":209,%prevExist%}`,
		"value=%zz":                `{"errorCode":210,"message":"Invalid POST form",%}`,
	} {
		p.want(400, want, "PUT", "/v2/keys/a?"+query, "")
	}
	if w := p.ask("GET", "/v2/keys/", ""); w.Header().Get("X-Etcd-Index") != "1" {
		t.Errorf("a mistake has moved the index to %s", w.Header().Get("X-Etcd-Index"))
	}
}

func TestTooLarge(t *testing.T) {
	p := newPlace(t, func(o *Options) { o.MaxRequestBytes = 1 << 20 })
	p.want(500, `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request is too large","index":0}`, "PUT", "/v2/keys/a", "value="+strings.Repeat("x", 2<<20))
	p.want(400, `{"errorCode":210,"message":"Invalid POST form","cause":"http: request body too large","index":0}`, "PUT", "/v2/keys/a", "value="+strings.Repeat("x", 4<<20))
}

func TestHeaders(t *testing.T) {
	p := newPlace(t, nil)
	for _, r := range [][2]string{{"PUT", "/v2/keys/a"}, {"GET", "/v2/keys/a"}, {"HEAD", "/v2/keys/a"}} {
		h := p.ask(r[0], r[1], "").Header()
		for _, name := range []string{"X-Etcd-Cluster-Id", "X-Etcd-Index", "X-Raft-Index", "X-Raft-Term"} {
			if h.Get(name) == "" {
				t.Errorf("%s %s has no %s", r[0], r[1], name)
			}
		}
		if got := h.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s %s is %s", r[0], r[1], got)
		}
	}
}

// A member that was started anew still knows the events before.
func TestHistoryAfterRestart(t *testing.T) {
	p := newPlace(t, nil)
	p.ask("PUT", "/v2/keys/a", "value=1")
	p.ask("PUT", "/v2/keys/b?ttl=1000", "value=2")
	p.ask("DELETE", "/v2/keys/a", "")
	p.edge.Close()
	p.serve(nil)
	p.want(200, `{"action":"set","node":{"key":"/a",%`, "GET", "/v2/keys/a?wait=true&waitIndex=1", "")
	p.want(200, `{"action":"delete","node":{"key":"/a","modifiedIndex":4,%},"prevNode":{"key":"/a","value":"1",%}}`, "GET", "/v2/keys/a?wait=true&waitIndex=3", "")
}

func TestHistoryIsBounded(t *testing.T) {
	p := newPlace(t, nil)
	for i := range historyEvents + 10 {
		p.ask("PUT", "/v2/keys/a", fmt.Sprintf("value=%d", i))
	}
	// The first event has index 2; the last 1,000 begin with 12.
	p.want(400, `{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"the requested history has been cleared [12/11]","index":1011}`, "GET", "/v2/keys/a?wait=true&waitIndex=11", "")
	p.want(200, `{"action":"set","node":{"key":"/a","value":"10","modifiedIndex":12,"createdIndex":12},"prevNode":{%}}`, "GET", "/v2/keys/a?wait=true&waitIndex=12", "")
}

// stream opens a waiting request to a server of its own and gives its lines.
func (p *place) stream(query string) *bufio.Reader {
	p.t.Helper()
	s := httptest.NewServer(p.http)
	p.t.Cleanup(s.Close)
	resp, err := http.Get(s.URL + "/v2/keys" + query)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = resp.Body.Close() }) // the test has what it wants
	return bufio.NewReader(resp.Body)
}

func (p *place) line(r *bufio.Reader, want string) {
	p.t.Helper()
	line, err := r.ReadString('\n')
	if err != nil || !matches(strings.TrimSuffix(line, "\n"), want) {
		p.t.Errorf("%q, %v, not %s", line, err, want)
	}
}

func TestStream(t *testing.T) {
	p := newPlace(t, nil)
	all := p.stream("/?wait=true&recursive=true&stream=true")
	deep := p.stream("/d/x?wait=true")
	p.ask("PUT", "/v2/keys/_hidden", "value=1")
	p.ask("PUT", "/v2/keys/d/x?ttl=100", "value=1")
	p.ask("PUT", "/v2/keys/d/x?ttl=200", "refresh=true")
	again := p.stream("/d/x?wait=true")
	p.ask("DELETE", "/v2/keys/d?recursive=true", "")
	p.line(all, `{"action":"set","node":{"key":"/d/x",%"ttl":100,%}}`)
	p.line(all, `{"action":"delete","node":{"key":"/d","dir":true,%},"prevNode":{"key":"/d","dir":true,%}}`)
	p.line(deep, `{"action":"set",%}`)
	p.line(again, `{"action":"delete","node":{"key":"/d",%`)
	if _, err := again.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("behind its one event: %v", err)
	}
	p.edge.Close()
	if _, err := all.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the edge ended: %v", err)
	}
	p.serve(nil)
}

func TestWaitsAreBounded(t *testing.T) {
	p := newPlace(t, func(o *Options) { o.WaitsMax = 1 })
	p.stream("/a?wait=true")
	p.want(500, `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: too many requests","index":0}`, "GET", "/v2/keys/b?wait=true", "")
}

func TestMembers(t *testing.T) {
	p := newPlace(t, nil)
	id := fmt.Sprintf("%x", p.member.ID())
	own := `{"id":"` + id + `","name":"default","peerURLs":["http://localhost:2380"],"clientURLs":["http://localhost:2379"]}`
	p.want(200, `{"members":[`+own+`]}`, "GET", "/v2/members", "")
	p.want(200, own, "GET", "/v2/members/leader", "")
	p.want(404, `{"message":"Not found"}`, "GET", "/v2/members/x", "")
	p.want(200, `http://localhost:2379`, "GET", "/v2/machines", "")
	p.want(415, `{"message":"Bad Content-Type , accept application/json"}`, "POST", "/v2/members", "")
	asJSON := func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }
	p.want(400, `{"message":"unexpected end of JSON input"}`, "POST", "/v2/members", "{", asJSON)
	p.want(400, `{"message":"URL scheme must be http, https, unix, or unixs: x"}`, "POST", "/v2/members", `{"peerURLs":["x"]}`, asJSON)
	p.want(409, `{"message":"%"}`, "POST", "/v2/members", `{"peerURLs":["http://localhost:2380"]}`, asJSON)
	p.want(204, ``, "PUT", "/v2/members/"+id, `{"peerURLs":["http://localhost:2381"]}`, asJSON)
	p.want(404, `{"message":"No such member: 1"}`, "DELETE", "/v2/members/1", "")
	p.want(404, `{"message":"No such member: zz"}`, "DELETE", "/v2/members/zz", "")
	p.want(405, `Method Not Allowed`, "DELETE", "/v2/members", "")
	p.want(200, `{"name":"solo","id":"`+id+`","state":"StateLeader",%`, "GET", "/v2/stats/self", "")
	p.want(200, `{"leader":"`+id+`","followers":{}}`, "GET", "/v2/stats/leader", "")
	p.ask("PUT", "/v2/keys/a", "value=1")
	p.ask("GET", "/v2/keys/nothing", "")
	p.want(200, `{"getsSuccess":0,"getsFail":1,"setsSuccess":1,%"watchers":0}`, "GET", "/v2/stats/store", "")
}

// gatekeeper lets nobody write, and nobody near the members.
type gatekeeper struct{}

func (gatekeeper) MayKeys(_ *http.Request, path string, write, _ bool) bool {
	return !write && path != "/secret"
}
func (gatekeeper) MayAdmin(*http.Request) bool { return false }

func TestGuard(t *testing.T) {
	p := newPlace(t, func(o *Options) { o.Guard = gatekeeper{} })
	no := `{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}`
	p.want(401, no, "PUT", "/v2/keys/a", "value=1")
	p.want(401, no, "GET", "/v2/keys/secret?wait=true", "")
	p.want(404, `{"errorCode":100,%`, "GET", "/v2/keys/a", "")
	p.want(401, `{"message":"Insufficient credentials"}`, "GET", "/v2/members", "")
}

// Where v3's users are asked for, v2 is no way around them.
func TestV3Users(t *testing.T) {
	p := newPlace(t, nil)
	p.ask("PUT", "/v2/keys/team/a", "value=1")
	p.ask("PUT", "/v2/keys/other", "value=1")
	p.enableAuth()
	no := `{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}`
	as := func(name, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, password) }
	}
	root, tom := as("root", "r"), as("tom", "t")
	for _, r := range [][3]string{
		{"GET", "/v2/keys/team/a", ""}, {"GET", "/v2/keys/?recursive=true", ""}, {"PUT", "/v2/keys/team/a", "value=2"}, {"PUT", "/v2/keys/x?ttl=5", "value=2"},
		{"POST", "/v2/keys/team", "value=2"}, {"DELETE", "/v2/keys/team?recursive=true", ""}, {"GET", "/v2/keys/team/a?wait=true", ""},
		{"GET", "/v2/keys/team/a?wait=true&waitIndex=1", ""},
	} {
		p.want(401, no, r[0], r[1], r[2])
		p.want(401, no, r[0], r[1], r[2], as("tom", "wrong"))
		p.want(401, no, r[0], r[1], r[2], as("nobody", "t"))
		p.want(401, no, r[0], strings.Replace(r[1], "team", "other", 1), r[2], tom)
	}
	p.want(401, `{"message":"Insufficient credentials"}`, "GET", "/v2/members", "")
	p.want(200, `{"action":"get",%}`, "GET", "/v2/keys/?recursive=true", "", root)
	p.want(200, `{"action":"get",%}`, "GET", "/v2/keys/team/a", "", tom)
	p.want(200, `{"action":"get",%}`, "GET", "/v2/keys/team?recursive=true", "", tom)
	p.want(200, `{"action":"set",%}`, "PUT", "/v2/keys/team/a", "value=2", tom)
	p.want(201, `{"action":"set",%}`, "PUT", "/v2/keys/team/b?ttl=5000", "value=2", tom)
	p.want(200, `{"action":"set",%}`, "GET", "/v2/keys/team/a?wait=true&waitIndex=1", "", tom)
	p.want(401, no, "DELETE", "/v2/keys/team/a", "", tom) // the record of what was deleted is not theirs to write
	p.want(200, `{"action":"delete",%}`, "DELETE", "/v2/keys/team?recursive=true", "", root)
}

// enableAuth makes root, and tom, who may read and write /team and what is below.
func (p *place) enableAuth() {
	p.t.Helper()
	ctx := context.Background()
	var all []error
	add := func(_ any, err error) { all = append(all, err) }
	add(p.member.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "r"}))
	add(p.member.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}))
	add(p.member.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "tom", Password: "t"}))
	add(p.member.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "team"}))
	perm := &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("/_v2/keys/team"), RangeEnd: []byte("/_v2/keys/team0")}
	add(p.member.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "team", Perm: perm}))
	add(p.member.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "tom", Role: "team"}))
	add(p.member.AuthEnable(ctx, &pb.AuthEnableRequest{}))
	if err := errors.Join(all...); err != nil {
		p.t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("PUT", "/v2/keys/a/../b", "ttl=18446744073709551615&prevExist=T", "refresh=1")
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Body: io.NopCloser(strings.NewReader(body)),
			Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		}
		q, err := parse(r, time.Unix(1_700_000_000, 0))
		var refused *v2tree.Error
		switch {
		case err != nil && !errors.As(err, &refused):
			t.Errorf("%v has no code", err)
		case err == nil && (q.Path != v2tree.Clean(q.Path) || q.wait && method != http.MethodGet):
			t.Errorf("%+v", q)
		}
	})
}
