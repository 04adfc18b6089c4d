package jsonapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// dial opens a WebSocket; header is names and values in turn.
func (f *fixture) dial(path string, header ...string) *websocket.Conn {
	f.t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	c, r, err := websocket.DefaultDialer.DialContext(f.t.Context(), "ws"+strings.TrimPrefix(f.http.URL, "http")+path, h)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Body.Close()
	f.t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(patience)) // the connection is new
	return c
}

func (f *fixture) say(c *websocket.Conn, text string) {
	f.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		f.t.Fatal(err)
	}
}

// hear wants a message with a part.
func (f *fixture) hear(c *websocket.Conn, part string) string {
	f.t.Helper()
	kind, text, err := c.ReadMessage()
	if err != nil || kind != websocket.TextMessage || !strings.Contains(compact(f.t, string(text)), part) {
		f.t.Fatalf("%d %s %v, not with %s", kind, text, err, part)
	}
	return string(text)
}

// hearEnd wants the socket to be closed in due form.
func (f *fixture) hearEnd(c *websocket.Conn) {
	f.t.Helper()
	if _, text, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		f.t.Fatalf("%s %v", text, err)
	}
}

func TestSocketStreams(t *testing.T) {
	f := serve(t)
	c := f.dial("/v3/watch")
	f.say(c, `{"create_request":{"key":"YQ=="}}`)
	f.hear(c, `"created":true`)
	f.put("a", "1")
	f.hear(c, `"events":[{"kv":{"key":"YQ=="`)
	f.say(c, `{"cancel_request":{"watch_id":"0"}}`)
	f.hear(c, `"canceled":true`)
	f.say(c, `{"create_request":{"key":"YQ=="}}`)
	f.hear(c, `"created":true`)
	f.awaitWatchers(1)
	c.Close()
	f.awaitWatchers(0)

	text := f.dial("/v3beta/watch", "Accept", asText, "Content-Type", asText)
	f.say(text, `{"create_request":{"key":"a","start_revision":2}}`)
	f.hear(text, `"created":true`)
	f.hear(text, `"key":"a"`)

	k := f.dial("/v3/lease/keepalive")
	for range 3 {
		f.say(k, `{"ID":"5"}`)
		f.hear(k, `"ID":"5"}}`)
	}
}

// A call with one request is answered, and over then.
func TestSocketSingle(t *testing.T) {
	f := serve(t)
	for _, x := range []struct{ path, ask, part string }{
		{"/v3/kv/put", `{"key":"YQ==","value":"MQ=="}`, `"revision":"2"`},
		{"/v3/kv/range", `{"key":"YQ=="}`, `"value":"MQ=="`},
		{"/v3/kv/range", `{"key":`, `"code":3`},
		{"/v3/kv/range", `{}`, `"message":"etcdserver: key is not provided"`},
		{"/v3/kv/rangestream", `{"key":"YQ=="}`, `"value":"MQ=="`},
		{"/v3/nothing", `{}`, `"code":5`},
	} {
		c := f.dial(x.path)
		f.say(c, x.ask)
		f.hear(c, x.part)
		f.hearEnd(c)
	}
	c := f.dial("/v3/maintenance/snapshot")
	f.say(c, `{}`)
	for last := ""; ; {
		_, text, err := c.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, websocket.CloseNormalClosure) || !strings.Contains(last, `"blob"`) {
				t.Fatal(last, err)
			}
			break
		}
		last = string(text)
	}
}

func TestSocketTokens(t *testing.T) {
	f := serve(t)
	for _, ask := range []string{"role/add {\"name\":\"root\"}", "user/add {\"name\":\"root\",\"password\":\"x\"}", "user/grant {\"user\":\"root\",\"role\":\"root\"}", "enable {}"} {
		path, body, _ := strings.Cut(ask, " ")
		f.post("/v3/auth/"+path, body).want(t, 200, `"header"`)
	}
	var got struct{ Token string }
	if err := json.Unmarshal([]byte(f.post("/v3/auth/authenticate", `{"name":"root","password":"x"}`).body), &got); err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string][]string{
		"protocol": {"Sec-WebSocket-Protocol", "Bearer, " + got.Token}, "no blank": {"Sec-WebSocket-Protocol", "Bearer," + got.Token},
		"cookie": {"Cookie", "token=" + got.Token}, "header": {"Authorization", got.Token},
	} {
		c := f.dial("/v3/kv/range", header...)
		if name == "protocol" && c.Subprotocol() != "Bearer" {
			t.Errorf("the subprotocol is %q", c.Subprotocol())
		}
		f.say(c, `{"key":"YQ=="}`)
		f.hear(c, `"header"`)
	}
	c := f.dial("/v3/kv/range", "Sec-WebSocket-Protocol", "Bearer, nonsense")
	f.say(c, `{"key":"YQ=="}`)
	f.hear(c, `"code":16`)
	c = f.dial("/v3/watch")
	f.say(c, `{"create_request":{"key":"YQ=="}}`)
	f.hear(c, `etcdserver: user name is empty`)
}

// Sockets end with the server, whatever they wait for.
func TestSocketsEnd(t *testing.T) {
	f := serve(t)
	watching, silent, asking := f.dial("/v3/watch"), f.dial("/v3/kv/put"), f.dial("/v3/lease/keepalive")
	f.say(watching, `{"create_request":{"key":"YQ=="}}`)
	f.hear(watching, `"created":true`)
	f.say(asking, `{"ID":"5"}`)
	f.hear(asking, `"ID":"5"`)
	f.rpc.Close()
	f.hear(watching, `"error":{"code":14,"message":"etcdserver: server stopped"`)
	f.hearEnd(watching)
	f.hear(asking, `etcdserver: server stopped`)
	silent.Close()
	f.edge.Wait()
}

func TestSocketRefusals(t *testing.T) {
	f := serve(t)
	f.send(http.MethodGet, "/v3/watch", "", "Connection", "upgrade", "Upgrade", "websocket").want(t, 400, `Bad Request`)
	c := f.dial("/v3/watch")
	if err := c.WriteMessage(websocket.TextMessage, make([]byte, f.edge.bodyMax+1)); err == nil {
		_, _, err = c.ReadMessage()
		if !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
			t.Error(err)
		}
	}
}

// What is written to a client that is gone ends the call.
func TestSocketIsGivenUp(t *testing.T) {
	ended := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var up websocket.Upgrader
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			ended <- err
			return
		}
		c.Close()
		canceled := false
		sock := &socket{conn: c, cancel: func() { canceled = true }}
		_, _ = sock.Write([]byte("a line\n"))
		if _, err = sock.Write([]byte("more")); !canceled {
			err = errors.New("the call goes on")
		}
		ended <- err
	}))
	defer s.Close()
	c, r, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
	if err == nil {
		r.Body.Close()
		c.Close()
	}
	if err := <-ended; !errors.Is(err, errSocketClosed) {
		t.Error(err)
	}
}
