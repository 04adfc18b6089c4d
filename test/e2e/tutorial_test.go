package e2e

import (
	"strings"
	"testing"
)

// Every command of docs/tutorial.md works, in the order of the page. What it says of DNS needs network namespaces: the tests of
// srv_linux_test.go have members and clients that know a domain alone. Its container is that of image_linux_test.go.
func TestTutorial(t *testing.T) {
	t.Parallel()
	plainOnly(t, "the page starts members of its own")
	out := followPage(t, "../../docs/tutorial.md", "curl openssl awk", 30,
		"H1=127.61.0.1", "H2=127.61.0.2", "H3=127.61.0.3", "H4=127.61.0.4")
	if t.Failed() {
		return
	}
	for _, part := range []string{
		"is healthy: successfully committed proposal: took = ", `couldn't find local name \"etcd9\" in the initial cluster configuration`,
		"\nfoo\nHello World!\n", `"value":"SGVsbG8gV29ybGQh"`, "\nweb1\nvalue1\nweb2\nvalue2\n+", "\n\"Count\" : 3\n", "\nSUCCESS\n\n1\n",
		"\nPUT\nstock1\n1000\nPUT\nstock2\n2000\n", `"PUT" "foo" is "Hello again"`, "keepalived with TTL(300)", "attached keys([sample])",
		"\nthis runs under the lock\n", "etcdserver: permission denied", "etcdserver: user name is empty", "\nRoles: reader\n",
		"\nwhile-away\nwritten without the leader\n", "removed from cluster", "added as learner to cluster", "promoted in cluster",
		"URL scheme must be http", "snapshot must be requested to one selected node", "copy.db has no checksum behind it",
		"required revision has been compacted", "database space exceeded", "alarm:NOSPACE",
		"finished transforming keys: 1 keys", "\n/foo\nbar\n", "\nmy-prefix/my-key\nabc\n", "started, v2-2,", "started, service-2,", "started, v3-2,",
		"\nsecret\nmessage\n", "tls: certificate required",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("%q was not printed", part)
		}
	}
}
