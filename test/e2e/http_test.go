package e2e

import (
	"strings"
	"testing"
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
