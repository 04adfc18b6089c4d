package compat

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keelson/test/process"
)

// nodeDir holds the scripts, and what `make node` installs for them.
const nodeDir = "../node"

// What Node's clients document works against Keelson as against the etcd of their day: etcd3 for v3, node-etcd for v2.
func TestNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skipf("the clients run in node: %v", err)
	}
	if _, err := os.Stat(filepath.Join(nodeDir, "node_modules")); err != nil {
		t.Skipf("%v: make node installs the clients", err)
	}
	for _, x := range []struct {
		script, peer string
		flags        []string
	}{
		{"etcd3.test.js", "etcd37", nil},
		{"node-etcd.test.js", "etcd34", []string{"--enable-v2"}},
	} {
		for _, p := range []process.Program{ours(t), stock(t, x.peer)} {
			t.Run(x.script+" asks "+p.Name, func(t *testing.T) {
				t.Parallel()
				m := single(t, p, x.flags...).Serve()
				ctx, cancel := context.WithTimeout(t.Context(), 2*process.Patience)
				defer cancel()
				cmd := exec.CommandContext(ctx, node, "--test", x.script)
				cmd.Dir, cmd.Env = nodeDir, append(process.Environ(), "ETCD_ENDPOINT="+m.ClientURL())
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), "\n# fail 0\n") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
