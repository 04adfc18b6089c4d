package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/test/process"
)

// The README's first command, with no flag at all: it serves on the usual port, with its data in default.etcd.
func TestBare(t *testing.T) {
	const usual = "127.0.0.1:2379"
	for _, addr := range []string{usual, "127.0.0.1:2380"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Skipf("the usual ports are taken: %v", err)
		}
		l.Close()
	}
	m := process.Single(t, keelson, "")
	m.Bare, m.ClientAddr = true, usual
	m.Serve()
	if out := m.Ctl("put", "greeting", "hello"); out != "OK\n" {
		t.Errorf("put printed %q", out)
	}
	if out := m.Ctl("get", "greeting"); out != "greeting\nhello\n" {
		t.Errorf("get printed %q", out)
	}
	m.Stop()
	if _, err := os.Stat(filepath.Join(m.WorkDir, "default.etcd", "member", "wal")); err != nil {
		t.Error(err)
	}
}

// The line that container images run etcd with, single dashes and all.
func TestDockerLine(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "")
	url := "http://" + m.ClientAddr
	m.Bare = true
	m.Flags = []string{
		"-advertise-client-urls", url, "-listen-client-urls", url, "-initial-advertise-peer-urls=http://" + m.PeerAddr,
		"-listen-peer-urls=http://" + m.PeerAddr, "-initial-cluster=etcd0=http://" + m.PeerAddr, "-name", "etcd0",
		"-initial-cluster-token", "etcd-cluster-1", "-initial-cluster-state", "new",
	}
	m.Serve()
	if out := m.Ctl("member", "list"); !strings.Contains(out, ", started, etcd0, http://"+m.PeerAddr+", "+url+", false") {
		t.Errorf("member list: %s", out)
	}
	m.Stop()
	if _, err := os.Stat(filepath.Join(m.WorkDir, "etcd0.etcd")); err != nil {
		t.Error(err)
	}
}

// Each wrong command line is refused with what to change, a status other than 0, and nothing created.
func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		flags      []string
	}{
		{"unknown", "no-such-flag", []string{"--no-such-flag=1"}},
		{"argument", "stray", []string{"stray"}},
		{"bad number", "snapshot-count", []string{"--snapshot-count=many"}},
		{"path in URL", "path", []string{"--listen-client-urls=http://127.0.0.1:1/x"}},
		{"domain to listen on", "example.com", []string{"--listen-client-urls=http://example.com:1", "--advertise-client-urls=http://example.com:1"}},
		{"not in the cluster", "initial-cluster", []string{"--name=a", "--initial-cluster=b=http://127.0.0.1:2380"}},
		{"other peer URL", "initial-cluster", []string{"--name=a", "--initial-cluster=a=http://127.0.0.1:1"}},
		{"feature to come", "enable-distributed-tracing", []string{"--enable-distributed-tracing=true"}},
		{"TLS without a certificate", "--cert-file", []string{"--listen-metrics-urls=https://127.0.0.1:1"}},
		{"unknown key", "no-such-key", []string{"--config-file=unknown.yaml"}},
		{"neither", "neither", []string{"--config-file=neither.conf"}},
		{"no file", "absent.yaml", []string{"--config-file=absent.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := process.Single(t, keelson, "")
			for name, text := range map[string]string{"unknown.yaml": "name: x\nno-such-key: 1\n", "neither.conf": "this is neither\n"} {
				if err := os.WriteFile(filepath.Join(m.WorkDir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := names(t, m.WorkDir)
			m.Bare, m.Flags = true, append([]string{"--listen-peer-urls=http://" + m.PeerAddr, "--listen-client-urls=http://" + m.ClientAddr, "--advertise-client-urls=http://" + m.ClientAddr}, c.flags...)
			if out := m.Refused(); !strings.Contains(out, c.want) {
				t.Errorf("refused without a word of %q: %s", c.want, out)
			}
			if after := names(t, m.WorkDir); after != before {
				t.Errorf("it left %s, before it was %s", after, before)
			}
		})
	}
}

// names lists a folder, but for the log that the harness keeps there.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".log" {
			all = append(all, e.Name())
		}
	}
	return strings.Join(all, " ")
}

// A unix socket serves clients like a port.
func TestUnixSocket(t *testing.T) {
	plainOnly(t, "its URL is one of plain text")
	t.Parallel()
	m := process.Single(t, keelson, "")
	socket := filepath.Join(m.WorkDir, "s")
	m.Flags = []string{"--listen-client-urls=http://" + m.ClientAddr + ",unix://" + socket}
	m.Serve()
	o := process.Tool(t, keelson.Path("etcdctl"), "", nil, "--endpoints=unix://"+socket, "put", "a", "b")
	if o.Status != 0 || o.Stdout != "OK\n" {
		t.Errorf("put through the socket: %+v", o)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + socket}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := c.Get(t.Context(), "a"); err != nil || r.Count != 1 {
		t.Errorf("get through the socket: %v %v", r, err)
	}
	m.Stop()
}

// A second process on a directory that is in use is refused, clearly, and does no harm to the first.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	m.Ctl("put", "a", "1")
	second := process.Single(t, keelson, m.Dir)
	if out := second.Refused(); !strings.Contains(out, m.Dir) || !strings.Contains(out, "another process") {
		t.Errorf("the refusal does not say what is in use, by whom: %s", out)
	}
	m.Ctl("put", "a", "2")
	m.Kill()
	m.Serve()
	if out := m.Ctl("get", "a", "--print-value-only"); out != "2\n" {
		t.Errorf("after the refused start: %q", out)
	}
	m.Stop()
}

// etcd --version prints etcd's four lines and one of our own.
func TestVersion(t *testing.T) {
	t.Parallel()
	o := process.Tool(t, keelson.Path("etcd"), "", nil, "--version")
	lines := strings.Split(o.Stdout, "\n")
	for i, want := range []string{"etcd Version: 3.7.3", "Git SHA: ", "Go Version: go", "Go OS/Arch: ", "Keelson "} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("line %d is not %q: %s", i, want, o.Stdout)
		}
	}
	if o.Status != 0 || len(lines) != 6 {
		t.Errorf("status %d, %d lines", o.Status, len(lines)-1)
	}
}
