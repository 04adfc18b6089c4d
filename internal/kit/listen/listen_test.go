package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUnixSocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths of sockets differ")
	}
	path := filepath.Join(t.TempDir(), "s")
	u := parse(t, "unix://"+path)
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), u, Options{}); !errors.Is(err, ErrSocketBusy) {
		t.Fatalf("a socket that answers: %v", err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal("the stale socket must be there")
	}
	l, err := Open(t.Context(), u, Options{ReusePort: true})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket outlives its listener")
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), u, Options{}); err == nil {
		t.Fatal("a plain file was taken for a socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Error("the plain file is gone")
	}
}

func TestReusePort(t *testing.T) {
	first, err := Open(t.Context(), parse(t, "http://127.0.0.1:0"), Options{ReusePort: true, ReuseAddress: true})
	if errors.Is(err, ErrNoReuse) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	u := parse(t, "http://"+first.Addr().String())
	second, err := Open(t.Context(), u, Options{ReusePort: true})
	if err != nil {
		t.Fatalf("the port is not shared: %v", err)
	}
	second.Close()
	if l, err := Open(t.Context(), u, Options{}); err == nil {
		l.Close()
		t.Error("the port was bound without the option")
	}
}

func TestOpenAllOrNone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	// A socket by a name of its own: a port that is free again may be somebody else's by the time it is looked at.
	path := filepath.Join(t.TempDir(), "s")
	urls := []url.URL{*parse(t, "unix://"+path), *parse(t, "http://"+taken.Addr().String())}
	if _, err := OpenAll(context.Background(), urls, Options{}); err == nil {
		t.Fatal("a port in use was opened")
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		t.Error("the first socket stayed open")
	}
}

// scripted is a connection that reads from a script and keeps what is written.
type scripted struct {
	net.Conn
	in  io.Reader
	out []byte
}

func (c *scripted) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *scripted) Write(p []byte) (int, error) { c.out = append(c.out, p...); return len(p), nil }
