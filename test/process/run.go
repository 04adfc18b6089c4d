package process

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// Ports of members lie below the range that systems give to outgoing connections, so that no connection takes the port
// of a member that is down for a moment.
const firstPort, portsEnd = 20000, 32000

// given are the ports that were given out: a member that is not up yet, or down for a moment, comes back to its own.
var given sync.Map

// FreeAddrs gives loopback addresses that nobody listens on just now, and that no test of this process was given before.
func FreeAddrs(t testing.TB, n int) []string {
	t.Helper()
	var found []string
	for tries := 0; len(found) < n; tries++ {
		if tries > 1000 {
			t.Fatal("no free port found")
		}
		port := firstPort + rand.IntN(portsEnd-firstPort)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if _, taken := given.LoadOrStore(port, true); taken {
			l.Close()
			continue
		}
		defer l.Close()
		found = append(found, l.Addr().String())
	}
	return found
}

// Until waits until check gives nil, and fails the test with its last error when patience ends.
func Until(t testing.TB, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	end := time.After(Patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited %v in vain until %s: %v", Patience, what, err)
		}
	}
}

// Outcome is what a tool printed and how it ended.
type Outcome struct {
	Stdout, Stderr string
	Status         int
}

// Tool runs a binary to its end with input, and more environment.
func Tool(t testing.TB, path, input string, env []string, args ...string) Outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewBufferString(input), &stdout, &stderr
	cmd.Env = append(Environ(), env...)
	cmd.SysProcAttr = owned()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", path, args, err)
	}
	return Outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// CtlEnv tells etcdctl by its environment how to reach the member, or the proxy before it.
func (m *Member) CtlEnv() []string {
	return append([]string{"ETCDCTL_ENDPOINTS=" + doors(m)[0].ClientURL()}, m.birth.certs.ctl...)
}

// TryCtl runs the etcdctl of the member's own program against it, where it runs, and gives how that ended.
func (m *Member) TryCtl(args ...string) Outcome {
	m.t.Helper()
	path := m.Program.Path("etcdctl")
	if m.Place != nil {
		args = append(append(slices.Clone(m.Place.Enter[1:]), path), args...)
		path = m.Place.Enter[0]
	}
	return Tool(m.t, path, "", m.CtlEnv(), args...)
}

// Ctl is TryCtl where a status other than 0 fails the test. It gives what was printed.
func (m *Member) Ctl(args ...string) string {
	m.t.Helper()
	o := m.TryCtl(args...)
	if o.Status != 0 {
		m.t.Fatalf("etcdctl %v: status %d: %s%s", args, o.Status, o.Stdout, o.Stderr)
	}
	return o.Stdout
}
