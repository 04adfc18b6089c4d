package main

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

func TestSocketOf(t *testing.T) {
	for endpoint, want := range map[string][2]string{
		"127.0.0.1:2379":         {"tcp", "127.0.0.1:2379"},
		"http://127.0.0.1:2379":  {"tcp", "127.0.0.1:2379"},
		"http://127.0.0.1:2379/": {"tcp", "127.0.0.1:2379"},
		"http://[::1]:2379":      {"tcp", "[::1]:2379"},
		"unix:///run/etcd.sock":  {"unix", "/run/etcd.sock"},
		"https://h.example:2379": {"tcp", "h.example:2379"},
		"unix:etcd.sock":         {"unix", "etcd.sock"},
		"unixs:///run/etcd.sock": {"unix", "/run/etcd.sock"},
		"unix://localhost:0":     {"unix", "localhost:0"},
	} {
		if network, address := socketOf(endpoint); network != want[0] || address != want[1] {
			t.Errorf("%s: %s %s, want %v", endpoint, network, address, want)
		}
	}
}

func TestLeaseID(t *testing.T) {
	for arg, want := range map[string]int64{"7a5b000000c0ffee": fakeLease, "0": 0, "1F": 31, "-1": -1} {
		if id, err := leaseID(arg); err != nil || int64(id) != want {
			t.Errorf("%s: %d, %v", arg, id, err)
		}
	}
	for _, arg := range []string{"", "xyz", "0x1f", "ffffffffffffffff"} {
		var e *exitError
		if _, err := leaseID(arg); !errors.As(err, &e) || e.status != statusBadArgs {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

// A refused connection is told with the endpoint and what to do; the first line stays etcd's.
func TestHintNamesTheEndpoint(t *testing.T) {
	const addr = "127.0.0.1:1" // a port that was closed may be somebody else's by now
	status, out, diag := runProgram([]string{"--endpoints=" + addr, "--command-timeout=100ms", "get", "a"}, "", nil)
	if status != statusError || out != "" || !strings.HasPrefix(diag, "Error: context deadline exceeded\nHint: "+addr+" cannot be reached: ") {
		t.Errorf("exit %d, %q, %q", status, out, diag)
	}
	if status, _, diag := runProgram([]string{"--endpoints=", "get", "a"}, "", nil); status != statusBadConnection || diag != "Error: etcdclient: no available endpoints\n" {
		t.Errorf("no endpoints: exit %d, %q", status, diag)
	}
}

func TestUnixEndpointIsDialled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skipf("no unix sockets: %v", err)
	}
	defer l.Close()
	a := quietApp()
	a.set.commandTimeout = time.Second
	hint := a.hint(context.DeadlineExceeded, []string{"unix://" + path})
	if !strings.Contains(hint, "no answer within 1s") {
		t.Errorf("%q", hint)
	}
}

// A transaction or a delete whose answer the format cannot print is refused before it is sent.
func TestUnprintableWriteIsNotSent(t *testing.T) {
	f := startFake(t, false)
	status, _, diag := runProgram([]string{"--endpoints=" + f.addr, "txn", "-w", "table"}, "\nput a b\n\n\n", nil)
	if status != statusBadFeature || diag != "Error: table not supported as output format\n" || f.txn != nil {
		t.Errorf("exit %d, %q, sent %v", status, diag, f.txn)
	}
}

func TestDeleteOfARangePauses(t *testing.T) {
	f := startFake(t, false)
	var out, diag strings.Builder
	paused := time.Duration(0)
	a := &app{args: []string{"--endpoints=" + f.addr, "del", "a", "b"}, in: strings.NewReader(""), out: &out, diag: &diag, wait: func(d time.Duration) { paused += d }}
	if status := a.run(); status != 0 || out.String() != "2\n" || paused != delRangePause || !strings.HasPrefix(diag.String(), `Warning: Keys between "a" and "b" will be deleted.`) {
		t.Errorf("exit %d, %q, %q, paused %v", status, &out, &diag, paused)
	}
}

func TestStatusOfErrors(t *testing.T) {
	a := quietApp()
	c := &call{app: a}
	run := exec.Command("/bin/sh", "-c", "exit 7").Run()
	for _, x := range []struct {
		name string
		err  error
		want int
	}{
		{"nil", nil, 0},
		{"the command under a lock", c.lockStatus(run), 7},
		{"a lost lock", c.lockStatus(errLockLost), statusError},
		{"a signal", signalError{2}, statusSignal + 2},
		{"a format", printed(output.ErrFormat), statusBadFeature},
		{"an answer without a layout", printed(&output.UnsupportedError{Text: "x"}), statusBadFeature},
		{"a full disk", printed(errors.New("no space left on device")), statusIO},
		{"told already", &exitError{status: 1}, 1},
	} {
		if got := a.report(a.root(), x.err); got != x.want {
			t.Errorf("%s: exit %d, want %d", x.name, got, x.want)
		}
	}
}

func TestPutRequest(t *testing.T) {
	f := &putFlags{lease: "1f", ignoreLease: true}
	key, value, opts, err := f.request([]string{"k"}, strings.NewReader("from stdin\n"))
	if op := clientv3.OpPut(key, value, opts...); err != nil || string(op.ValueBytes()) != "from stdin\n" {
		t.Errorf("%+v %v", op, err)
	}
	f = &putFlags{lease: "0", ignoreValue: true}
	if _, value, _, err := f.request([]string{"k"}, strings.NewReader("not read")); err != nil || value != "" {
		t.Errorf("%q %v", value, err)
	}
}
