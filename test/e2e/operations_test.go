package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"keelson/test/process"
)

// shBlock is a block of commands in a page.
var shBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// pageTime bounds a whole page: on an idle machine one takes some 15 s.
const pageTime = 5 * time.Minute

// wait is how long a page looks at a stream, which a person has seen enough of sooner than a busy machine has begun it.
var wait = strings.NewReplacer("-m 1 ", "-m 5 ")

// followPage runs every command of a page, in its order: its blocks are one script, with addresses of its own. It gives what
// was printed.
func followPage(t *testing.T, file, programs string, blocksMin int, env ...string) string {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blocks := shBlock.FindAllSubmatch(page, -1)
	if len(blocks) < blocksMin {
		t.Fatalf("%d blocks of commands on the page", len(blocks))
	}
	script := "set -euo pipefail\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\ntrap 'exit 1' TERM\nset -x\n"
	for _, b := range blocks {
		script += wait.Replace(string(b[1])) + "\n"
	}
	for _, program := range strings.Fields(programs) {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the page uses %s, which is not here", program)
		}
	}
	bin := keelson.Bin
	if !filepath.IsAbs(bin) {
		t.Fatalf("KEELSON_BIN %s is not absolute", bin)
	}
	ctx, cancel := context.WithTimeout(t.Context(), pageTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = t.TempDir()
	// No page is about an election that a busy machine holds.
	calm := append(process.Environ(), "ETCD_ELECTION_TIMEOUT=5000", "PATH="+bin+":"+os.Getenv("PATH"), "DATA="+cmd.Dir, "PKI="+cmd.Dir)
	cmd.Env = slices.Concat(calm, process.CtlTimes(), env)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends the members that it started
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out[max(0, len(out)-4000):])
		logs, _ := filepath.Glob(filepath.Join(cmd.Dir, "*.log")) // the pattern is a good one
		for _, file := range logs {
			if text, err := os.ReadFile(file); err == nil {
				t.Logf("--- %s\n%s", filepath.Base(file), text[max(0, len(text)-1500):])
			}
		}
	}
	return string(out)
}

// Every command of docs/operations.md works, in the order of the page.
func TestOperationsPage(t *testing.T) {
	t.Parallel()
	out := followPage(t, "../../docs/operations.md", "curl", 10, "H1=127.45.0.1", "H2=127.45.0.2", "H3=127.45.0.3", "H4=127.45.0.4")
	if n := strings.Count(out, "\ngreeting\nhello\n"); !t.Failed() && n != 3 {
		t.Errorf("the key was read %d times", n)
	}
}
