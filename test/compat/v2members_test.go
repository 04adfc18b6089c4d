package compat

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keelson/test/process"
)

// v2Plain sends a request whose body is no form, and gives status, type and body, with what is each side's own replaced.
func v2Plain(t *testing.T, s *v2Side, method, path, kind, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), process.Patience)
	defer cancel()
	id := v2MemberID(t, s)
	r, err := http.NewRequestWithContext(ctx, method, s.m.ClientURL()+strings.ReplaceAll(path, "ID", id), strings.NewReader(strings.ReplaceAll(body, "PEER", s.m.PeerURL())))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	named := resp.Header.Get("X-Etcd-Cluster-Id") != ""
	text := resp.Status + " " + resp.Header.Get("Content-Type") + " " + resp.Header.Get("Allow") + " " + string(got)
	text = strings.NewReplacer(id, "ID", s.m.PeerURL(), "PEER", s.m.ClientURL(), "CLIENT").Replace(text)
	text = v2Moving.ReplaceAllString(text, `"$1":?`)
	if named {
		text += " (cluster named)"
	}
	return text
}

// v2Moving are fields of statistics that no two members have in common.
var v2Moving = regexp.MustCompile(`"(startTime|uptime|[a-zA-Z]+(?:Success|Fail)|expireCount|watchers|id)":("[^"]*"|[0-9]+)`)

func v2MemberID(t *testing.T, s *v2Side) string {
	t.Helper()
	a := s.do(v2Step{method: "GET", path: "/v2/members"})
	var got struct{ Members []struct{ ID, Name string } }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatalf("%v: %v", a, err)
	}
	i := slices.IndexFunc(got.Members, func(m struct{ ID, Name string }) bool { return m.Name == "solo" })
	if i < 0 {
		t.Fatalf("%v", a)
	}
	return got.Members[i].ID
}

// TestV2Members asks both about members, machines and statistics: what is right and what is not.
func TestV2Members(t *testing.T) {
	p := newV2Pair(t)
	for _, r := range [][4]string{
		{"GET", "/v2/members"}, {"GET", "/v2/members/"}, {"GET", "/v2/members/leader"}, {"GET", "/v2/members/nothing"}, {"GET", "/v2/members/ID"},
		{"GET", "/v2/machines"}, {"HEAD", "/v2/machines"}, {"POST", "/v2/machines"}, {"GET", "/v2/machines/x"}, {"HEAD", "/v2/members"},
		{"GET", "/v2/stats/self"}, {"GET", "/v2/stats/leader"}, {"GET", "/v2/stats/store"}, {"PUT", "/v2/stats/store"}, {"HEAD", "/v2/stats/self"}, {"GET", "/v2/stats/"},
		{"POST", "/v2/members"}, {"POST", "/v2/members", "text/plain", "x"}, {"POST", "/v2/members", "application/json", ""}, {"POST", "/v2/members", "application/json", "{"},
		{"POST", "/v2/members", "Application/JSON ; charset=x", "{}"}, {"POST", "/v2/members", "application/json", `{"peerURLs":[]}`},
		{"POST", "/v2/members", "application/json", `{"peerURLs":["x"]}`}, {"POST", "/v2/members", "application/json", `{"peerURLs":"x"}`},
		{"POST", "/v2/members", "application/json", `{"peerURLs":["PEER"]}`}, {"POST", "/v2/members", "application/json", `{"peerURLs":["http://127.0.0.1:1/path"]}`},
		{"PUT", "/v2/members"}, {"PUT", "/v2/members/zz"}, {"PUT", "/v2/members/1"}, {"PUT", "/v2/members/1", "application/json", `{"peerURLs":["http://127.0.0.1:7"]}`},
		{"PUT", "/v2/members/ID", "application/json", `{"peerURLs":["http://127.0.0.1:8"]}`}, {"GET", "/v2/members"},
		{"PUT", "/v2/members/ID", "application/json", `{"peerURLs":["PEER"]}`},
		{"DELETE", "/v2/members"}, {"DELETE", "/v2/members/zz"}, {"DELETE", "/v2/members/1"}, {"DELETE", "/v2/members/ID/x"}, {"PATCH", "/v2/members"},
		{"GET", "/v2"}, {"GET", "/v2/"}, {"GET", "/v2/auth"},
	} {
		got := v2Plain(t, p.ours, r[0], r[1], r[2], r[3])
		want := v2Plain(t, p.real, r[0], r[1], r[2], r[3])
		if got != want {
			t.Errorf("%q\nkeelson: %s\netcd:    %s", r, got, want)
		}
	}
}
