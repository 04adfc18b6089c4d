package e2e

import (
	"strings"
	"testing"
)

// Every command of docs/security.md works, in the order of the page; what it says is refused is refused.
func TestSecurityPage(t *testing.T) {
	t.Parallel()
	out := followPage(t, "../../docs/security.md", "curl openssl", 8, "H1=127.46.0.1", "H2=127.46.0.2", "H3=127.46.0.3")
	for what, times := range map[string]int{"\ngreeting\nhello\n": 1, "\napp/key\nvalue\n": 2, "permission denied": 2} {
		if n := strings.Count(out, what); !t.Failed() && n != times {
			t.Errorf("%q was printed %d times, not %d", what, n, times)
		}
	}
}
