// Package listen opens the sockets that a URL names, and lets gRPC and HTTP share one of them. internal/config has checked the
// URLs; cmd/etcd opens them and gives them to the servers.
//
// A port is shared by looking at the first bytes of each connection (Split). Whoever speaks HTTP/2 with a content type of gRPC
// goes to the gRPC server's own transport, everybody else to net/http. After that look, a connection's reads and writes go
// straight to the socket. A port with TLS is wrapped before (Secure), and is shared the same way; who has agreed on HTTP/1.1 in
// the handshake needs no look.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"syscall"
	"time"
)

// Options steer how TCP sockets are opened.
type Options struct {
	// ReusePort and ReuseAddress set SO_REUSEPORT and SO_REUSEADDR. ErrNoReuse where the system has no such thing.
	ReusePort, ReuseAddress bool
}

// ErrNoReuse is returned when a socket option is asked for that this operating system lacks.
var ErrNoReuse = errors.New("listen: reuse of ports and addresses is not supported on this operating system")

// ErrSocketBusy is returned when a process already answers on a unix socket.
var ErrSocketBusy = errors.New("listen: another process answers on this socket")

// keepAlive finds a dead client within 30 s + 9 probes of 30 s, on Linux.
const keepAlive = 30 * time.Second

// Open listens on one URL: the host and port of an http or https one, the file of a unix or unixs one. TLS is the caller's.
func Open(ctx context.Context, u *url.URL, o Options) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: keepAlive}
	network, address := "tcp", u.Host
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		network, address = "unix", u.Host+u.Path
		if err := removeStale(ctx, address); err != nil {
			return nil, err
		}
	} else if o.ReusePort || o.ReuseAddress {
		lc.Control = func(_, _ string, c syscall.RawConn) error { return reuse(c, o) }
	}
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("listen: open %s: %w", u, err)
	}
	return l, nil
}

// OpenAll listens on every URL, or on none.
func OpenAll(ctx context.Context, urls []url.URL, o Options) ([]net.Listener, error) {
	var open []net.Listener
	for i := range urls {
		l, err := Open(ctx, &urls[i], o)
		if err != nil {
			for _, l := range open {
				l.Close()
			}
			return nil, err
		}
		open = append(open, l)
	}
	return open, nil
}

// removeStale takes away the socket that a dead process left. It leaves other kinds of files alone, and sockets that answer.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen: look at %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen: %s is there and is no socket: remove it, or choose another path", path)
	}
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		c.Close()
		return fmt.Errorf("%w: %s", ErrSocketBusy, path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("listen: remove a stale socket: %w", err)
	}
	return nil
}
