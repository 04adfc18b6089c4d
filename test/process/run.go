package process

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Ports of members lie below the range that systems give to outgoing connections, so that no connection takes the port
// of a member that is down for a moment.
const firstPort, portsEnd = 20000, 32000

// claims are UDP sockets, one at the number of each port that was given out, open for as long as this process lives: a member
// that is not up yet, or down for a moment, comes back to its own port, whatever other tests run beside, here or in another
// process. Members use no UDP.
var claims struct {
	sync.Mutex
	all []net.PacketConn // what nobody refers to is closed
}

// FreeAddrs gives loopback addresses that nobody listens on just now, and that no test was given before that still runs.
func FreeAddrs(t testing.TB, n int) []string {
	t.Helper()
	var found []string
	for tries := 0; len(found) < n; tries++ {
		if tries > 1000 {
			t.Fatal("no free port found")
		}
		port := firstPort + rand.IntN(portsEnd-firstPort)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		claim, err := net.ListenPacket("udp", addr) //nolint:noctx // it is opened at once
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			claim.Close()
			continue
		}
		defer l.Close()
		claims.Lock()
		claims.all = append(claims.all, claim)
		claims.Unlock()
		found = append(found, addr)
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
			if err = check(); err == nil { // what was starved meanwhile gets one more look
				return
			}
			t.Fatalf("waited %v in vain until %s: %v", Patience, what, err)
		}
	}
}

// passing is what members and etcdctl say when an election, or a machine that was too busy, came between: no fault of who
// asked, and etcd's users ask again.
var passing = []string{
	"etcdserver: leader changed", "etcdserver: no leader", "etcdserver: request timed out", "etcdserver: too many requests",
}

func passes(text string) bool {
	return slices.ContainsFunc(passing, func(p string) bool { return strings.Contains(text, p) })
}

// Answered asks until the answer is one that no election explains: one may be held at any time where members are starved. What
// is asked may be done more than once.
func Answered[R any](t testing.TB, ask func() (R, error)) (r R, err error) {
	t.Helper()
	Until(t, "a request is answered", func() error {
		if r, err = ask(); err != nil && passes(err.Error()) {
			return err
		}
		return nil
	})
	return r, err
}

// Settled is Answered for what has no answer but its error.
func Settled(t testing.TB, ask func() error) error {
	t.Helper()
	_, err := Answered(t, func() (struct{}, error) { return struct{}{}, ask() })
	return err
}

// Done is Answered for a tool. A status other than 0 fails the test. It gives what was printed.
func Done(t testing.TB, what string, run func() Outcome) string {
	t.Helper()
	var o Outcome
	Until(t, what+" is answered", func() error {
		if o = run(); o.Status != 0 && passes(o.Stderr) {
			return errors.New(o.Stderr)
		}
		return nil
	})
	if o.Status != 0 {
		t.Fatalf("%s: status %d: %s%s", what, o.Status, o.Stdout, o.Stderr)
	}
	return o.Stdout
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

// CtlTimes are variables that give etcdctl more time than its usual seconds, which a busy machine may take. Where args set a
// time themselves, its variable is left out: etcd's etcdctl takes no flag beside its variable.
func CtlTimes(args ...string) (env []string) {
	for flag, variable := range map[string]string{"--command-timeout": "ETCDCTL_COMMAND_TIMEOUT", "--dial-timeout": "ETCDCTL_DIAL_TIMEOUT"} {
		if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, flag) }) {
			env = append(env, variable+"=30s")
		}
	}
	return env
}

// CtlEnv tells etcdctl by its environment how to reach the member, or the proxy before it, for a command with these arguments.
func (m *Member) CtlEnv(args ...string) []string {
	return slices.Concat(CtlTimes(args...), []string{"ETCDCTL_ENDPOINTS=" + doors(m)[0].ClientURL()}, m.birth.certs.ctl)
}

// TryCtl runs the etcdctl of the member's own program against it, where it runs, and gives how that ended.
func (m *Member) TryCtl(args ...string) Outcome {
	m.t.Helper()
	path := m.Program.Path("etcdctl")
	if m.Place != nil {
		args = append(append(slices.Clone(m.Place.Enter[1:]), path), args...)
		path = m.Place.Enter[0]
	}
	return Tool(m.t, path, "", m.CtlEnv(args...), args...)
}

// Ctl is TryCtl where a status other than 0 fails the test, unless it is one that passes. It gives what was printed.
func (m *Member) Ctl(args ...string) string {
	m.t.Helper()
	return Done(m.t, fmt.Sprintf("etcdctl %v", args), func() Outcome { return m.TryCtl(args...) })
}
