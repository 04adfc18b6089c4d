package compat

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"keelson/test/process"
)

// jsonAsk is one request of the JSON gateway, or of its vicinity.
type jsonAsk struct {
	path, body string
	method     string   // POST unless it says else
	header     []string // names and values in turn
	// lines is how many of the answer's lines are read; 0: all.
	lines int
	// alike says that no two servers answer with the same values: names are compared.
	alike bool
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// jsonAsks are made in this order, of both servers.
func jsonAsks() []jsonAsk {
	return slices.Concat(jsonKeys(), jsonOdd(), jsonLeases(), jsonQueues(), jsonUsers(), jsonMembers(), jsonVicinity())
}

func jsonKeys() []jsonAsk {
	key := func(more string) string { return `{"key":"` + b64("foo") + `"` + more + `}` }
	txn := `{"compare":[{"key":"` + b64("foo") + `","target":"%s","result":"EQUAL",%s}],"success":[{"request_range":` + key("") + `}],"failure":[{"requestPut":{"key":"Zg==","value":"Zg=="}},{"request_delete_range":` + key("") + `}]}`
	return []jsonAsk{
		{path: "/v3/kv/put", body: key(`,"value":"` + b64("bar") + `"`)},
		{path: "/v3/kv/put", body: key(`,"value":"` + b64("b<&>") + `","prev_kv":true`)},
		{path: "/v3/kv/put", body: key(`,"value":"_-8=","prevKv":true`)},
		{path: "/v3/kv/put", body: key(`,"ignore_value":true,"value":"YQ=="`)},
		{path: "/v3/kv/put", body: key(`,"ignore_value":true,"prev_kv":true`)},
		{path: "/v3/kv/put", body: `{"value":"YQ=="}`},
		{path: "/v3/kv/put", body: key(`,"lease":"404"`)},
		{path: "/v3/kv/put", body: `{"key":"Zm9vMQ=="}`},
		{path: "/v3/kv/range", body: key("")},
		{path: "/v3beta/kv/range", body: key("")},
		{path: "/v3alpha/kv/range", body: key("")},
		{path: "/v3/kv/range", body: `{"key":"bm9uZQ=="}`},
		{path: "/v3/kv/range", body: `{"key":"Zm8=","range_end":"AA==","limit":1}`},
		{path: "/v3/kv/range", body: `{"key":"Zm8=","range_end":"AA==","sort_order":"DESCEND","sort_target":"MOD","keys_only":true}`},
		{path: "/v3/kv/range", body: `{"key":"Zm8=","range_end":"AA==","sort_order":2,"sort_target":7}`},
		{path: "/v3/kv/range", body: `{"key":"Zm8=","range_end":"AA==","count_only":true,"serializable":true}`},
		{path: "/v3/kv/range", body: key(`,"revision":2`)},
		{path: "/v3/kv/range", body: key(`,"revision":"2000"`)},
		{path: "/v3/kv/range", body: `{}`},
		{path: "/v3/kv/txn", body: fmt.Sprintf(txn, "VERSION", `"version":"4"`)},
		{path: "/v3/kv/txn", body: fmt.Sprintf(txn, "MOD", `"mod_revision":1`)},
		{path: "/v3/kv/txn", body: fmt.Sprintf(txn, "VALUE", `"value":"YQ=="`)},
		{path: "/v3/kv/txn", body: `{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}`},
		{path: "/v3/kv/txn", body: `{}`},
		{path: "/v3/kv/txn", body: `{"success":[{"request_put":{"key":"Zm9v","value":"eA=="}},{"request_txn":{"success":[{"request_range":` + key("") + `}]}}]}`},
		{path: "/v3/kv/deleterange", body: `{"key":"Zm8=","range_end":"AA==","prev_kv":true}`},
		{path: "/v3/kv/deleterange", body: key("")},
		{path: "/v3/kv/compaction", body: `{"revision":"4","physical":true}`},
		{path: "/v3/kv/compaction", body: `{"revision":"4"}`},
		{path: "/v3/kv/range", body: key(`,"revision":3`)},
		{path: "/v3/watch", body: `{"create_request":{"key":"Zm9v","start_revision":"5"}}`, lines: 2},
		{path: "/v3/watch", body: `{"create_request":{"key":"Zm8=","range_end":"AA==","start_revision":"5","prev_kv":true,"filters":["NOPUT"]}}`, lines: 2},
		{path: "/v3/watch", body: `{"create_request":{"key":"Zm9v","start_revision":"2"}}`, lines: 2},
		{path: "/v3/watch", body: `{"create_request":{"key":"Zm9v","watch_id":"7"}} {"create_request":{"key":"Zm9v","watch_id":"7"}} {"cancel_request":{"watch_id":7}}`, lines: 3},
	}
}

// jsonOdd are requests that no client should make.
func jsonOdd() []jsonAsk {
	var all []jsonAsk
	for _, body := range []string{
		``, ` `, `{`, `}`, `[]`, `null`, `"a"`, `7`, `{"key":7}`, `{"key":"a"}`, `{"key":"YQ"}`, `{"key":"*"}`, `{"key":null}`, `{"key":"YQ==","key":"Yg=="}`, `{"other":{"a":[1]}}`, `{"key":"YQ==","limit":"x"}`,
		`{"key":"YQ==","limit":1.5}`, `{"key":"YQ==","limit":1e2}`, `{"key":"YQ==","limit":" 1"}`, `{"key":"YQ==","limit":99999999999999999999}`, `{"key":"YQ==","serializable":1}`, `{"key":"YQ==","sort_order":"UP"}`,
		`{"key":"YQ=="}{"key":"Yg=="}`, `{"key":"YQ=="} trailing`, "{\"key\":\"YQ==\",\"x\":\"\xff\"}", `{"key":"\u0059Q=="}`, `{"key":"YQ==",}`, `{'key':'YQ=='}`,
	} {
		all = append(all, jsonAsk{path: "/v3/kv/range", body: body})
	}
	const ask = `{"key":"YQ=="}`
	return append(all,
		jsonAsk{path: "/v3/kv/range", method: "GET"}, jsonAsk{path: "/v3/kv/range", method: "PUT", body: ask}, jsonAsk{path: "/v3/kv/range", method: "HEAD"}, jsonAsk{path: "/v3/kv/range", method: "OPTIONS"},
		jsonAsk{path: "/v3/kv/range/", body: ask}, jsonAsk{path: "/v3/kv//range", body: ask}, jsonAsk{path: "/v3/kv/none", body: ask}, jsonAsk{path: "/v3", body: ask}, jsonAsk{path: "/v3/", body: ask}, jsonAsk{path: "/v3/kv/range?x=1", body: ask},
		jsonAsk{path: "/v3/kv%2Frange", body: ask}, jsonAsk{path: "/v3beta/none", method: "GET"}, jsonAsk{path: "/v3/kv/range:x", body: ask},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Content-Type", "text/plain"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Content-Type", "application/x-www-form-urlencoded"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Content-Type", "application/x-www-form-urlencoded", "X-HTTP-Method-Override", "GET"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Accept", "text/html"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Origin", "http://x"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Grpc-Timeout", "1H"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Grpc-Timeout", "soon"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Grpc-Timeout", "1n"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Grpc-Metadata-X-Bin", "!"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Grpc-Metadata-hasleader", "true"}},
		jsonAsk{path: "/v3/kv/put", body: `{"key":"YQ==","value":"` + strings.Repeat("AAAA", 1<<19) + `"}`},
		jsonAsk{path: "/v3/kv/put", body: `{"key":"YQ==","value":"` + strings.Repeat("AAAA", 800<<10) + `"}`},
	)
}

func jsonLeases() []jsonAsk {
	return []jsonAsk{
		{path: "/v3/lease/grant", body: `{"TTL":1000,"ID":"77"}`},
		{path: "/v3/lease/grant", body: `{"TTL":"1000","ID":77}`},
		{path: "/v3/lease/grant", body: `{"TTL":99999999999}`},
		{path: "/v3/kv/put", body: `{"key":"YQ==","lease":"77"}`},
		{path: "/v3/lease/timetolive", body: `{"ID":77,"keys":true}`},
		{path: "/v3/kv/lease/timetolive", body: `{"ID":78}`},
		{path: "/v3/lease/leases", body: `{}`},
		{path: "/v3/kv/lease/leases", body: ``},
		{path: "/v3/lease/keepalive", body: `{"ID":77} {"ID":"78"}`},
		{path: "/v3/lease/keepalive", body: `{"ID":"x"}`},
		{path: "/v3/lease/keepalive", body: ``},
		{path: "/v3/kv/lease/revoke", body: `{"ID":77}`},
		{path: "/v3/lease/revoke", body: `{"ID":77}`},
	}
}

func jsonQueues() []jsonAsk {
	return []jsonAsk{
		{path: "/v3/lease/grant", body: `{"TTL":1000,"ID":"88"}`},
		{path: "/v3/lock/lock", body: `{"name":"bA==","lease":88}`},
		{path: "/v3/lock/unlock", body: `{"key":"bC81OA=="}`},
		{path: "/v3/lock/unlock", body: `{}`},
		{path: "/v3/lock/lock", body: `{"name":"bA==","lease":89}`},
		{path: "/v3/election/campaign", body: `{"name":"ZQ==","lease":88,"value":"dg=="}`},
		{path: "/v3/election/leader", body: `{"name":"ZQ=="}`},
		{path: "/v3/election/leader", body: `{"name":"bm9uZQ=="}`},
		{path: "/v3/election/observe", body: `{"name":"ZQ=="}`, lines: 1},
		{path: "/v3/election/proclaim", body: `{"value":"dw=="}`},
		{path: "/v3/election/proclaim", body: `{"leader":{"name":"ZQ==","key":"ZS81OA==","rev":"1","lease":88},"value":"dw=="}`},
		{path: "/v3/election/resign", body: `{"leader":{"name":"ZQ==","key":"ZS81OA==","rev":"1","lease":88}}`},
		{path: "/v3/lock/none", body: `{}`},
	}
}

func jsonUsers() []jsonAsk {
	all := []jsonAsk{{path: "/v3/auth/status", body: `{}`}, {path: "/v3/auth/enable", body: `{}`}, {path: "/v3/auth/authenticate", body: `{"name":"root","password":"x"}`}}
	for _, x := range []string{
		`role/add {"name":"root"}`, `role/add {"name":"root"}`, `role/add {"name":"r"}`, `role/grant {"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}`, `role/get {"role":"r"}`, `role/list {}`,
		`role/revoke {"role":"r","key":"YQ==","range_end":"Yg=="}`, `role/grant {"name":"r","perm":{"permType":"READ","key":"YQ=="}}`,
		`user/add {"name":"root","password":"x"}`, `user/add {"name":"u","password":"y"}`, `user/add {"name":""}`, `user/grant {"user":"root","role":"root"}`, `user/grant {"user":"u","role":"r"}`, `user/grant {"user":"u","role":"none"}`,
		`user/get {"name":"u"}`, `user/list {}`, `user/changepw {"name":"u","password":"z"}`, `user/revoke {"name":"u","role":"r"}`, `user/delete {"name":"u"}`, `role/delete {"role":"r"}`, `enable {}`, `user/list {}`,
	} {
		path, body, _ := strings.Cut(x, " ")
		all = append(all, jsonAsk{path: "/v3/auth/" + path, body: body})
	}
	const ask, watch = `{"key":"YQ=="}`, `{"create_request":{"key":"YQ=="}}`
	token := []string{"Authorization", "nonsense"}
	return append(all,
		jsonAsk{path: "/v3/kv/range", body: ask}, jsonAsk{path: "/v3/kv/range", body: ask, header: token}, jsonAsk{path: "/v3/kv/put", body: ask, header: token},
		jsonAsk{path: "/v3/watch", body: watch, lines: 1}, jsonAsk{path: "/v3/watch", body: watch, header: token, lines: 1},
		jsonAsk{path: "/v3/maintenance/snapshot", body: `{}`}, jsonAsk{path: "/v3/maintenance/snapshot", body: `{}`, header: token}, jsonAsk{path: "/v3/lease/keepalive", body: `{"ID":7}`},
		jsonAsk{path: "/v3/auth/authenticate", body: `{"name":"root","password":"no"}`}, jsonAsk{path: "/v3/auth/authenticate", body: `{"name":"root","password":"x"}`, alike: true},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Authorization", "TOKEN"}}, jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Authorization", "Bearer TOKEN"}},
		jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Grpc-Metadata-Token", "TOKEN"}}, jsonAsk{path: "/v3/kv/range", body: ask, header: []string{"Authorization", "bearer TOKEN"}},
		jsonAsk{path: "/v3/auth/disable", body: `{}`, header: []string{"Authorization", "TOKEN"}},
	)
}

func jsonMembers() []jsonAsk {
	return []jsonAsk{
		{path: "/v3/cluster/member/list", body: `{}`, alike: true},
		{path: "/v3/cluster/member/add", body: `{"peerURLs":["nonsense"]}`},
		{path: "/v3/cluster/member/remove", body: `{"ID":"5"}`},
		{path: "/v3/cluster/member/update", body: `{"ID":"5","peerURLs":["http://127.0.0.1:2"]}`},
		{path: "/v3/cluster/member/promote", body: `{"ID":"5"}`},
		{path: "/v3/maintenance/alarm", body: `{}`},
		{path: "/v3/maintenance/alarm", body: `{"action":"ACTIVATE","alarm":"NOSPACE"}`},
		{path: "/v3/kv/put", body: `{"key":"YQ=="}`},
		{path: "/v3/maintenance/alarm", body: `{"action":2,"alarm":1}`},
		{path: "/v3/maintenance/status", body: `{}`, alike: true},
		{path: "/v3/maintenance/hash", body: `{}`, alike: true},
		{path: "/v3/maintenance/hashkv", body: `{}`, alike: true},
		{path: "/v3/maintenance/hashkv", body: `{"revision":99999}`},
		{path: "/v3/maintenance/defragment", body: `{}`},
		{path: "/v3/maintenance/snapshot", body: `{}`, lines: 1, alike: true},
		{path: "/v3/maintenance/transfer-leadership", body: `{"targetID":"5"}`},
		{path: "/v3/maintenance/downgrade", body: `{"action":"VALIDATE","version":"3.6"}`},
		{path: "/v3/maintenance/downgrade", body: `{"action":"CANCEL"}`},
	}
}

// jsonVicinity is what other paths of the port answer.
func jsonVicinity() []jsonAsk {
	return []jsonAsk{{path: "/", method: "GET"}, {path: "/v2/keys", method: "GET"}, {path: "/v4/", method: "GET"}, {path: "/version", method: "OPTIONS"}}
}

// large is what differs between any two servers: IDs, ports, the time that is left, the size of a file. blanks are those that
// protobuf writes into texts, of one kind or the other by the program's hash.
var (
	large     = regexp.MustCompile(`"\d{15,20}"|127\.0\.0\.1:\d{5}|"TTL":"\d+"`)
	remaining = regexp.MustCompile(`"remaining_bytes":"\d+",`)
	blanks    = regexp.MustCompile("[ \u00a0]+")
	pid       = regexp.MustCompile(`:"?[^",{}\[\]]*"?`)
	bareJSON  = strings.NewReplacer(`, "`, `,"`, `": `, `":`)
)

// plainJSON takes out of a line what differs by chance.
func plainJSON(line string, alike bool) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(line)) == nil {
		line = b.String()
	}
	line = remaining.ReplaceAllString(line, "")
	line = large.ReplaceAllString(blanks.ReplaceAllString(line, " "), `"N"`)
	if alike {
		line = pid.ReplaceAllString(line, ":…")
	}
	return bareJSON.Replace(line)
}

// headersCompared are those that clients may look at.
var headersCompared = []string{"Content-Type", "Www-Authenticate", "Allow", "Location", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "X-Content-Type-Options", "Trailer"}

// do makes one request and gives the answer as text.
func (x jsonAsk) do(t testing.TB, address, token string) string {
	t.Helper()
	method := x.method
	if method == "" {
		method = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+x.path, strings.NewReader(x.body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(x.header); i += 2 {
		if r.Header.Set(x.header[i], strings.ReplaceAll(x.header[i+1], "TOKEN", token)); x.header[i] == "Host" {
			r.Host = x.header[i+1]
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", x.path, err)
	}
	defer a.Body.Close()
	out := fmt.Sprintf("%d", a.StatusCode)
	for _, name := range headersCompared {
		if v := a.Header.Values(name); len(v) > 0 {
			out += fmt.Sprintf(" %s=%q", name, v)
		}
	}
	in := bufio.NewReader(a.Body)
	for n := 0; x.lines == 0 || n < x.lines; n++ {
		line, err := in.ReadString('\n')
		if line != "" {
			out += "\n" + plainJSON(strings.TrimSuffix(line, "\n"), x.alike)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				out += "\n" + err.Error()
			}
			break
		}
	}
	return out
}

// The gateway answers as etcd 3.7.3's does, byte for byte but for IDs.
func TestJSON(t *testing.T) {
	t.Parallel()
	p := newPair(t, "--bcrypt-cost=4")
	var tokens [2]string
	for _, x := range jsonAsks() {
		var got [2]string
		for i, s := range []*side{p.ours, p.real} {
			got[i] = x.do(t, s.m.ClientAddr, tokens[i])
			if strings.HasSuffix(x.path, "/authenticate") && x.alike {
				tokens[i] = jsonToken(t, s.m.ClientAddr, "root", "x")
			}
		}
		if got[0] != got[1] {
			t.Errorf("%s %s %.200s %q\nkeelson: %.1000s\netcd:    %.1000s", x.method, x.path, x.body, x.header, got[0], got[1])
		}
	}
}

// jsonToken asks for a token as a script would.
func jsonToken(t testing.TB, address, user, password string) string {
	t.Helper()
	a, err := http.Post("http://"+address+"/v3/auth/authenticate", "application/json", strings.NewReader(fmt.Sprintf(`{"name":%q,"password":%q}`, user, password)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	var got struct{ Token string }
	if err := json.NewDecoder(a.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("no token: %v", err)
	}
	return got.Token
}

// socketAsk is a WebSocket: what is sent, and how many answers are read.
type socketAsk struct {
	path    string
	sends   []string
	answers int
	header  []string
}

func socketAsks() []socketAsk {
	return []socketAsk{
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ==","start_revision":2}}`}, answers: 2},
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ=="}}`, `{"cancel_request":{"watch_id":0}}`}, answers: 2},
		{path: "/v3beta/watch", sends: []string{`{"create_request":`, `{"key":"YQ=="}}`}, answers: 1},
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ=="}} {"create_request":{"key":"Yg=="}}`}, answers: 2},
		{path: "/v3/watch?method=GET", sends: []string{`{"create_request":{"key":"YQ=="}}`}, answers: 1},
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ=="}}`}, answers: 1, header: []string{"Sec-WebSocket-Protocol", "Bearer, x", "Origin", "http://elsewhere"}},
		{path: "/v3/lease/keepalive", sends: []string{`{"ID":7}`, `{"ID":"8"}`}, answers: 2},
		{path: "/v3/lease/keepalive", sends: []string{`{"ID":7}`, `{"ID":"x"}`}, answers: 1},
		{path: "/v3/none", sends: []string{`{}`}, answers: 1},
	}
}

// do gives the answers as text.
func (x socketAsk) do(t testing.TB, address string) (out string) {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(x.header); i += 2 {
		h.Set(x.header[i], x.header[i+1])
	}
	c, r, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+address+x.path, h)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	r.Body.Close()
	_ = c.SetReadDeadline(time.Now().Add(process.Patience)) // the connection is new
	out = fmt.Sprintf("%d %q", r.StatusCode, c.Subprotocol())
	for _, text := range x.sends {
		if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			return out + "\n" + err.Error()
		}
	}
	for range x.answers {
		kind, text, err := c.ReadMessage()
		if os.IsTimeout(err) {
			t.Errorf("%s %q: nothing comes from %s", x.path, x.sends, address)
		}
		if err != nil {
			return out + "\n" + err.Error()
		}
		out += fmt.Sprintf("\n%d %s", kind, plainJSON(string(text), false))
	}
	return out
}

// WebSockets carry the same streams, with the same messages.
func TestJSONSockets(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, s := range []*side{p.ours, p.real} {
		jsonAsk{path: "/v3/kv/put", body: `{"key":"YQ==","value":"MQ=="}`}.do(t, s.m.ClientAddr, "")
	}
	for _, x := range socketAsks() {
		if got, want := x.do(t, p.ours.m.ClientAddr), x.do(t, p.real.m.ClientAddr); got != want {
			t.Errorf("%s %q\nkeelson: %s\netcd:    %s", x.path, x.sends, got, want)
		}
	}
}

// What --cors, --host-whitelist and --enable-grpc-gateway change is what they change in etcd; a refusal's words are our own.
func TestJSONSettings(t *testing.T) {
	t.Parallel()
	asks := []jsonAsk{
		{path: "/version", method: "OPTIONS"}, {path: "/health", method: "GET"},
		{path: "/v3/kv/range", body: `{"key":"YQ=="}`, header: []string{"Origin", "http://a.example:8080"}}, {path: "/v3/kv/range", body: `{"key":"YQ=="}`, header: []string{"Origin", "http://c.example:8080"}},
		{path: "/v3/kv/range", method: "OPTIONS", header: []string{"Origin", "http://b.example:8080"}}, {path: "/v3beta/kv/range", body: `{}`},
		{path: "/v3/kv/range", body: `{"key":"YQ=="}`, header: []string{"Host", "other.example:2379"}}, {path: "/health", method: "GET", header: []string{"Host", "other.example"}},
	}
	for _, flags := range [][]string{
		{"--cors=http://a.example:8080,http://b.example:8080", "--host-whitelist=127.0.0.1"}, {"--enable-grpc-gateway=false"},
	} {
		p := newPair(t, flags...)
		for _, x := range asks {
			got, want := x.do(t, p.ours.m.ClientAddr, ""), x.do(t, p.real.m.ClientAddr, "")
			if strings.HasPrefix(want, "421") {
				got, want = got[:3], want[:3]
			}
			if got != want {
				t.Errorf("%v: %s %s %v\nkeelson: %s\netcd:    %s", flags, x.method, x.path, x.header, got, want)
			}
		}
	}
}
