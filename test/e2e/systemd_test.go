package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"keelson/test/process"
)

var packaging = filepath.Join("..", "..", "packaging")

// The unit says what it must, and systemd, where its checker is at hand, finds nothing wrong with it.
func TestUnit(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(packaging, "etcd.service"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{
		"Type=notify", "EnvironmentFile=-/etc/default/etcd", "ExecStart=/usr/local/bin/etcd", "Restart=on-failure", "LimitNOFILE=65536",
		"TimeoutStartSec=infinity", "StateDirectory=etcd",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("the unit does not say %s", want)
		}
	}
	checker, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("systemd can't be asked about the unit: %v", err)
	}
	// Only the program is not where the unit says.
	unit := filepath.Join(t.TempDir(), "keelson-etcd.service")
	text = strings.Replace(text, "/usr/local/bin/etcd", keelson.Path("etcd"), 1)
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := process.Tool(t, checker, "", nil, "verify", unit)
	if strings.Contains(o.Stderr, "keelson-etcd.service") {
		t.Errorf("systemd about the unit: %s", o.Stderr)
	}
	text = strings.Replace(text, "Type=notify", "Type=noitfy", 1)
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := process.Tool(t, checker, "", nil, "verify", unit); !strings.Contains(o.Stderr, "noitfy") {
		t.Skipf("systemd's checker does not work here: %s", o.Stderr)
	}
}

// A member takes the example environment file, tells systemd when clients are served and when it stops, and not before.
func TestNotify(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("systemd runs on Linux alone")
	}
	b, err := os.ReadFile(filepath.Join(packaging, "etcd.env"))
	if err != nil {
		t.Fatal(err)
	}
	m := process.Single(t, keelson, "")
	m.Bare = true
	settings := strings.NewReplacer("127.0.0.1:2379", m.ClientAddr, "127.0.0.1:2380", m.PeerAddr, "/var/lib/etcd/machine-0", m.Dir).Replace(string(b))
	for line := range strings.Lines(settings) {
		if strings.HasPrefix(line, "ETCD_") {
			m.Env = append(m.Env, strings.TrimSpace(line))
		}
	}
	socket := filepath.Join(m.WorkDir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m.Env = append(m.Env, "NOTIFY_SOCKET="+socket)
	m.Start()
	if state := notified(t, l); state != "READY=1" {
		t.Errorf("after the start systemd was told %q", state)
	}
	m.Ctl("put", "a", "b") // it serves at once
	if out := m.Ctl("member", "list"); !strings.Contains(out, ", started, machine-0, ") {
		t.Errorf("member list: %s", out)
	}
	if err := l.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Read(make([]byte, 64)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("systemd was told more while the member serves: %d bytes, %v", n, err)
	}
	m.Stop()
	if state := notified(t, l); state != "STOPPING=1" {
		t.Errorf("at the stop systemd was told %q", state)
	}
}

// notified waits for what a service tells systemd.
func notified(t *testing.T, l *net.UnixConn) string {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(process.Patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := l.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
