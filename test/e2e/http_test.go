package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"keelson/test/process"
)

// Every command of docs/http.md works, in the order of the page.
func TestHTTPPage(t *testing.T) {
	t.Parallel()
	out := followPage(t, "../../docs/http.md", "curl base64", 12, "H1=127.47.0.1")
	for _, part := range []string{
		`"key":"foo/1","create_revision":`, `"value":{"base64":"/w=="}`, `"created":true`, `"message":"etcdserver: key is not provided"`, `"key":"deploy/8"`, `"value":"n1 again"`,
		"hello again", "etcdserver: requested lease not found", "TOTAL KEYS",
		`"errorCode":105`, `"action":"compareAndSwap"`, `"action":"compareAndDelete"`, `"value":"awaited"`, `"value":"job2"`, `"leaderInfo"`,
	} {
		if !t.Failed() && !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(out, `": `, `":`), `, "`, `,"`), part) {
			t.Errorf("%q was not printed", part)
		}
	}
}

// A member stops in its usual time whatever is open by HTTP, and tells who has it open.
func TestStopWithOpenHTTP(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	if strings.HasPrefix(m.ClientURL(), "https:") {
		t.Skip("who brings a user's certificate makes no call by JSON")
	}
	a, err := http.Post(m.ClientURL()+"/v3/watch", "application/json", strings.NewReader(`{"create_request":{"key":"YQ=="}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	watch := bufio.NewReader(a.Body)
	if line, err := watch.ReadString('\n'); err != nil || !strings.Contains(line, "created") {
		t.Fatal(line, err)
	}
	ended := make(chan string)
	go func() {
		line, err := watch.ReadString('\n')
		ended <- fmt.Sprint(line, err)
	}()
	start := time.Now()
	m.Stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if last := <-ended; !strings.Contains(last, "server stopped") {
		t.Errorf("the stream ended with %s", last)
	}
}
