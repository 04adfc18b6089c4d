package discoverysvc

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	s := newSite(t, nil)
	if a := s.want(http.StatusOK, 0, "GET", "/", ""); !strings.Contains(a.body, "curl http://discovery.example:8087/new?size=3") || strings.Contains(a.body, "registered") {
		t.Errorf("%s", a.body)
	}
	s.want(http.StatusMethodNotAllowed, 0, "POST", "/", "x=y")
	token := s.token("2")
	state := func(asked string) string {
		t.Helper()
		a := s.want(http.StatusOK, 0, "GET", "/?token="+url.QueryEscape(asked), "")
		if a.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%v", a.header)
		}
		return a.body
	}
	if body := state(token[1:]); !strings.Contains(body, "0 of 2 members have registered") || !strings.Contains(body, "2 are still missing") {
		t.Errorf("%s", body)
	}
	s.want(http.StatusCreated, 0, "PUT", token+"/m1", url.Values{"value": {`<script>alert("1")</script>=http://10.0.0.1:2380`}}.Encode())
	body := state(" http://discovery.example:8087" + token + "/ ")
	if !strings.Contains(body, "1 is still missing: start it with") || strings.Contains(body, "<script") || !strings.Contains(body, "&lt;script&gt;") {
		t.Errorf("%s", body)
	}
	s.register(token, "0second")
	s.register(token, "0third")
	body = state(token)
	founders, extra, ok := strings.Cut(body, "Too late")
	if !strings.Contains(body, "The cluster is complete") || !ok || !strings.Contains(founders, "0second") || strings.Contains(founders, "0third") || !strings.Contains(extra, "0third") {
		t.Errorf("%s", body)
	}
}

// What is asked for comes from strangers too.
func TestPageProblems(t *testing.T) {
	s := newSite(t, nil)
	if a := s.want(http.StatusNotFound, 0, "GET", "/?token=0123456789abcdef0123456789abcdef", ""); !strings.Contains(a.body, "no such token") {
		t.Errorf("%s", a.body)
	}
	for _, asked := range []string{"x", `"><script>alert(1)</script>`, "../../_v2/keys", "/", strings.Repeat("0", 5000)} {
		a := s.want(http.StatusBadRequest, 0, "GET", "/?token="+url.QueryEscape(asked), "")
		if !strings.Contains(a.body, "That is no token") || strings.Contains(a.body, "<script") || len(a.body) > 5000 {
			t.Errorf("%q: %s", asked, a.body)
		}
	}
}
