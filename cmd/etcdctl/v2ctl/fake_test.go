package v2ctl

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake answers the requests of the v2 API with fixed values that depend on the path alone, and notes what it was asked.
type fake struct {
	*httptest.Server
	bare bool // publishes no client URLs

	mu     sync.Mutex // guards the rest
	asked  []string
	waits  int
	awaits string // a file: what follows the first change of a key is answered once it is there
}

func startFake(t *testing.T) *fake {
	f := &fake{}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// take gives the requests since the last time, and forgets them.
func (f *fake) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked, f.waits, f.awaits = nil, 0, ""
	return asked
}

func (f *fake) await(file string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.awaits = file
}

func (f *fake) note(r *http.Request) (body string, waits int, awaits string) {
	b, _ := io.ReadAll(r.Body)
	line := r.Method + " " + r.URL.String()
	if len(b) > 0 {
		line += " " + string(b)
	}
	for _, h := range []string{"Content-Type", "Authorization"} {
		if v := r.Header.Get(h); v != "" {
			line += " [" + v + "]"
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, line)
	if r.URL.Query().Get("wait") == "true" {
		f.waits++
	}
	return string(b), f.waits, f.awaits
}

const (
	memberA = `{"id":"8e9e05c52164694d","name":"a","peerURLs":["http://10.0.0.1:2380","http://10.0.0.2:2380"],"clientURLs":[%s]}`
	memberB = `{"id":"91bc3c398fb3c146","name":"","peerURLs":["http://10.0.0.9:2380"],"clientURLs":[]}`
)

// ServeHTTP answers.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, waits, awaits := f.note(r)
	urls := `"` + f.URL + `"`
	if f.bare {
		urls = ""
	}
	a := fmt.Sprintf(memberA, urls)
	w.Header().Set("X-Etcd-Index", "42")
	path, root, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	switch path {
	case "members":
		f.members(w, r, root, a, body)
	case "auth":
		f.auth(w, r, root)
	case "keys":
		f.keys(w, r, "/"+root, body, waits, awaits)
	default: // /health
		fmt.Fprint(w, `{"health":"true"}`)
	}
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func (f *fake) members(w http.ResponseWriter, r *http.Request, id, a, body string) {
	switch {
	case id == "leader":
		reply(w, 200, a)
	case r.Method == "GET":
		reply(w, 200, `{"members":[`+a+`,`+memberB+`]}`)
	case strings.Contains(body, "taken") || id == "taken":
		reply(w, 409, `{"message":"etcdserver: peerURL exists"}`)
	case r.Method == "POST":
		reply(w, 201, memberB)
	case id == "none":
		reply(w, 404, `{"message":"No such member: none"}`)
	case id == "91bc3c398fb3c146" && r.Method == "DELETE":
		reply(w, 500, `{"message":"etcdserver: re-configuration failed due to not enough started members"}`)
	default:
		w.WriteHeader(204)
	}
}

// auth knows the users ann and bob and the role app, refuses what names "full", and leaves a role as it is by "kept".
func (f *fake) auth(w http.ResponseWriter, r *http.Request, path string) {
	kind, name, _ := strings.Cut(path, "/")
	known := name == "ann" || name == "bob" || name == "app"
	switch {
	case kind == "enable" && r.Method == "PUT":
		reply(w, 409, `{"message":"auth: No root user available, please create one"}`)
	case kind == "users" && name == "":
		reply(w, 200, `{"users":[{"user":"ann","roles":[{"role":"app","permissions":{"kv":{"read":["/*"],"write":null}}}]},{"user":"bob","roles":null}]}`)
	case kind == "roles" && name == "":
		reply(w, 200, `{"roles":[{"role":"app","permissions":{"kv":{"read":["/*"],"write":null}}},{"role":"root","permissions":{"kv":{"read":["/*"],"write":["/*"]}}}]}`)
	case name == "full" && r.Method != "GET":
		reply(w, 400, `{"message":"auth: Refused"}`)
	case !known && r.Method == "GET":
		reply(w, 404, `{"message":"auth: `+name+` does not exist."}`)
	case kind == "users" && name == "ann" && r.Method == "GET":
		reply(w, 200, `{"user":"ann","roles":[{"role":"app","permissions":{"kv":{"read":["/*"],"write":null}}},{"role":"more","permissions":{"kv":{"read":null,"write":null}}}]}`)
	case kind == "users":
		reply(w, 200, `{"user":"`+name+`","roles":["app"]}`)
	case kind == "roles" && r.Method == "GET":
		reply(w, 200, `{"role":"app","permissions":{"kv":{"read":["/*","/a"],"write":["/w"]}}}`)
	case kind == "roles":
		reply(w, 200, `{"role":"app","permissions":{"kv":{"read":["/*","/a"],"write":["/w"]}}}`)
	default:
		reply(w, 200, `{}`)
	}
}

// keys answers by the path: none, dir, file, locked, plain (no JSON), empty, broken (500), hidden and the rest.
func (f *fake) keys(w http.ResponseWriter, r *http.Request, key, body string, waits int, awaits string) {
	if r.URL.Query().Get("wait") == "true" {
		f.wait(w, r, key, waits, awaits)
		return
	}
	action := map[string]string{"GET": "get", "PUT": "set", "POST": "create", "DELETE": "delete"}[r.Method]
	prev := `,"prevNode":{"key":"` + key + `","value":"before","modifiedIndex":30,"createdIndex":30}`
	if r.Method == "GET" || r.Method == "POST" {
		prev = ""
	}
	switch {
	case key == "/none":
		reply(w, 404, `{"errorCode":100,"message":"Key not found","cause":"/none","index":42}`)
	case key == "/locked":
		reply(w, 401, `{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}`)
	case key == "/plain":
		reply(w, 200, `hello`)
	case key == "/plainly":
		reply(w, 404, `<html>`)
	case key == "/empty":
		reply(w, 200, ``)
	case key == "/broken":
		reply(w, 500, `{}`)
	case key == "/moved":
		w.Header().Set("Location", f.URL+"/v2/keys/else")
		w.WriteHeader(307)
	case key == "/" || strings.HasPrefix(key, "/dir"):
		reply(w, 200, `{"action":"`+action+`","node":{"key":"`+key+`","dir":true,"nodes":[{"key":"/b","value":"two","modifiedIndex":9,"createdIndex":9},`+
			`{"key":"/a","dir":true,"nodes":[{"key":"/a/x","value":"","modifiedIndex":8,"createdIndex":8}],"modifiedIndex":7,"createdIndex":7}],"modifiedIndex":6,"createdIndex":6}`+prev+`}`)
	case key == "/ttl":
		reply(w, 200, `{"action":"`+action+`","node":{"key":"/ttl","value":"é<&>\"q\"","expiration":"2026-01-02T03:04:05.678901234Z","ttl":77,"modifiedIndex":40,"createdIndex":3}`+prev+`}`)
	case r.Method == "DELETE":
		reply(w, 200, `{"action":"`+action+`","node":{"key":"`+key+`","modifiedIndex":41,"createdIndex":3}`+prev+`}`)
	default:
		reply(w, 200, `{"action":"`+action+`","node":{"key":"`+key+`","value":"v","modifiedIndex":41,"createdIndex":3}`+prev+`}`)
	}
}

// wait answers a watch: a directory first where the key is "tree", then a change, an empty answer (as of one that ended for
// its age), another change, then that history is gone.
func (f *fake) wait(w http.ResponseWriter, r *http.Request, key string, n int, awaits string) {
	if key != "/tree" {
		n++
	}
	if awaits != "" && n > 2 {
		appears(r, awaits)
	}
	switch n {
	case 1:
		reply(w, 200, `{"action":"set","node":{"key":"/tree/dir","dir":true,"modifiedIndex":50,"createdIndex":50}}`)
	case 2:
		reply(w, 200, `{"action":"set","node":{"key":"/tree/a","value":"one","modifiedIndex":51,"createdIndex":51}}`)
	case 3:
		reply(w, 200, ``)
	case 4:
		reply(w, 200, `{"action":"expire","node":{"key":"/tree/a","modifiedIndex":52,"createdIndex":51},"prevNode":{"key":"/tree/a","value":"one","modifiedIndex":51,"createdIndex":51}}`)
	default:
		reply(w, 400, `{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"the requested history has been cleared [53/1]","index":1053}`)
	}
}

// appears waits until a file is there, for as long as the client does.
func appears(r *http.Request, file string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(file); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
