package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Host is a machine of its own, as far as the network goes: a network namespace with one interface, on a switch that is
// another namespace. A process that does nothing holds it and dies with the test, and all that is in it then goes.
type Host struct {
	Place
	Addr string

	t testing.TB
	// own is the process that holds this host's namespace, hub the one that holds the switch's.
	own, hub int
	port     string // its end of the cable on the switch
}

// Hosts makes hosts that reach each other and nobody else. It skips the test where the system does not let it.
func Hosts(t testing.TB, n int) []*Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, tool := range []string{"ip", "nsenter", "sleep"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("network namespaces need %s: %v", tool, err)
		}
	}
	hub := namespace(t)
	within(t, hub, "ip", "link", "add", "switch", "type", "bridge")
	within(t, hub, "ip", "link", "set", "switch", "up")
	var all []*Host
	for i := range n {
		h := &Host{Addr: hostsNet + strconv.Itoa(i+1), t: t, own: namespace(t), hub: hub, port: "port" + strconv.Itoa(i+1)}
		h.Place = Place{Enter: enter(h.own), Dial: h.dial}
		within(t, hub, "ip", "link", "add", h.port, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(h.own))
		within(t, hub, "ip", "link", "set", h.port, "master", "switch", "up")
		within(t, h.own, "ip", "addr", "add", h.Addr+"/24", "dev", "eth0")
		within(t, h.own, "ip", "link", "set", "lo", "up")
		within(t, h.own, "ip", "link", "set", "eth0", "up")
		all = append(all, h)
	}
	return all
}

// Spread makes one member a host, all of one new cluster, on the usual ports. None is started.
func Spread(t testing.TB, p Program, hosts []*Host, flags ...string) []*Member {
	t.Helper()
	all := Cluster(t, slices.Repeat([]Program{p}, len(hosts)), flags...)
	for i, m := range all {
		m.Place, m.ClientAddr, m.PeerAddr = &hosts[i].Place, hosts[i].Addr+":2379", hosts[i].Addr+":2380"
	}
	introduce(all)
	return all
}

// Cut pulls the host's cable out of the switch: what is sent gets lost, and nobody is told.
func (h *Host) Cut() {
	h.t.Helper()
	within(h.t, h.hub, "ip", "link", "set", h.port, "down")
}

// Mend puts the cable back.
func (h *Host) Mend() {
	h.t.Helper()
	within(h.t, h.hub, "ip", "link", "set", h.port, "up")
}

// namespace starts the process that holds a new namespace and gives its ID.
func namespace(t testing.TB) int {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = owned()
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	if err := cmd.Start(); err != nil {
		t.Skipf("this system gives no network namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// enter is what runs a command in the namespace that a process holds.
func enter(holder int) []string { return []string{"nsenter", "--net=" + netOf(holder), "--"} }

func netOf(holder int) string { return fmt.Sprintf("/proc/%d/ns/net", holder) }

func within(t testing.TB, holder int, args ...string) {
	t.Helper()
	args = append(enter(holder), args...)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// dial connects from within the host. The address is a number: nothing is looked up, and the socket is made here and not in
// another goroutine.
func (h *Host) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = h.inside(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// inside does something whose sockets are to be the host's: a socket belongs to the namespace in which its thread was when it
// was made.
func (h *Host) inside(do func() error) error {
	theirs, err := os.Open(netOf(h.own))
	if err != nil {
		return err
	}
	defer theirs.Close()
	runtime.LockOSThread()
	ours, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer ours.Close()
	if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("process: enter the network of %s: %w", h.Addr, err)
	}
	err = do()
	if err := unix.Setns(int(ours.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(fmt.Sprintf("process: this thread can't leave the network of %s: %v", h.Addr, err))
	}
	runtime.UnlockOSThread()
	return err
}
