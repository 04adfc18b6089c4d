package peer

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// idleTime ends a connection for POSTs before a stock member does, which is after 5 s of silence.
	idleTime = 4 * time.Second
	// idlePerPeer is enough for every goroutine that posts to one member: the posters and a probe.
	idlePerPeer = posters + 1
	// handshakeTime bounds the TLS handshake with a member, as etcd does.
	handshakeTime = 10 * time.Second
	// headerBytesMax bounds the head of an answer. A member's are a few hundred bytes.
	headerBytesMax = 16 << 10
)

// unixHost ends the host name that stands for the file of a unix socket in an HTTP request.
const unixHost = ".unix-socket"

// lines open connections: streams ones that must never be silent, posts ones that are used again.
type lines struct {
	streams, posts *line
	dial           func(ctx context.Context, network, address string) (net.Conn, error)
}

func newLines(o Options) lines {
	l := lines{dial: o.Dial}
	open := func(secrets *tls.Config, read, write time.Duration) *http.Transport {
		return &http.Transport{
			Proxy: proxy, MaxResponseHeaderBytes: headerBytesMax, TLSClientConfig: secrets, TLSHandshakeTimeout: handshakeTime,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
				defer cancel()
				if host, _, err := net.SplitHostPort(address); err == nil && strings.HasSuffix(host, unixHost) {
					file, err := hex.DecodeString(strings.TrimSuffix(host, unixHost))
					if err != nil {
						return nil, fmt.Errorf("peer: a unix socket's name: %w", err)
					}
					network, address = "unix", string(file)
				}
				c, err := o.Dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &timedConn{Conn: c, read: read, write: write}, nil
			},
		}
	}
	l.streams = &line{tls: o.TLS, open: func(secrets *tls.Config) *http.Transport {
		t := open(secrets, o.ReadTimeout, o.WriteTimeout)
		t.MaxIdleConnsPerHost = -1
		return t
	}}
	// The answer to a POST may take long: raft is busy, or a snapshot is saved. The system's keep-alives find a dead
	// machine.
	l.posts = &line{tls: o.TLS, open: func(secrets *tls.Config) *http.Transport {
		t := open(secrets, 0, o.WriteTimeout)
		t.MaxIdleConnsPerHost, t.IdleConnTimeout = idlePerPeer, idleTime
		return t
	}}
	return l
}

func (l lines) close() {
	l.streams.close()
	l.posts.close()
}

// line makes requests with the certificates and authorities of the moment. Connections that are open stay so when these change.
type line struct {
	tls  func() (*tls.Config, uint64)
	open func(*tls.Config) *http.Transport

	mu      sync.Mutex // guards the rest
	version uint64
	now     *http.Transport // nil before the first request
}

// RoundTrip makes one request.
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) { return l.current().RoundTrip(r) }

func (l *line) current() *http.Transport {
	l.mu.Lock()
	defer l.mu.Unlock()
	secrets, version := l.tls()
	if l.now == nil || version != l.version {
		if l.now != nil {
			l.now.CloseIdleConnections()
		}
		l.now, l.version = l.open(secrets), version
	}
	return l.now
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now != nil {
		l.now.CloseIdleConnections()
	}
}

// proxy takes what the environment says, as etcd does. A unix socket has none.
func proxy(r *http.Request) (*url.URL, error) {
	if strings.HasSuffix(r.URL.Hostname(), unixHost) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// refuses tells whether every one of a member's addresses refuses a connection now: nobody listens there.
func (l lines) refuses(ctx context.Context, peerURLs []string) bool {
	ctx, cancel := context.WithTimeout(ctx, refusalTime)
	defer cancel()
	for _, raw := range peerURLs {
		u, err := url.Parse(raw)
		if err != nil {
			return false
		}
		if p, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil || p != nil {
			return false // who refuses then is the proxy
		}
		network, address := "tcp", u.Host
		if isUnix(u) {
			network, address = "unix", u.Host+u.Path
		}
		c, err := l.dial(ctx, network, address)
		if err == nil {
			_ = c.Close()
			return false
		}
		if !refused(err) {
			return false
		}
	}
	return len(peerURLs) > 0
}

func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) // a unix socket that was taken away
}

func isUnix(u *url.URL) bool { return u.Scheme == "unix" || u.Scheme == "unixs" }

// at gives the URL of a path on a member's peer port.
func at(peerURL, path string) (string, error) {
	u, err := url.Parse(peerURL)
	if err != nil {
		return "", fmt.Errorf("peer: a member's peer URL: %w", err)
	}
	switch u.Scheme {
	case "http", "https":
		return u.Scheme + "://" + u.Host + path, nil
	case "unix":
		return "http://" + hex.EncodeToString([]byte(u.Host+u.Path)) + unixHost + path, nil
	}
	return "", fmt.Errorf("peer: the peer URL %s: %w", peerURL, errors.ErrUnsupported)
}

// valid tells whether all of a member's URLs can be called.
func valid(peerURLs []string) bool {
	for _, u := range peerURLs {
		if _, err := at(u, ""); err != nil {
			return false
		}
	}
	return len(peerURLs) > 0
}

// timedConn bounds each read and write by a time-out of its own; 0: none.
type timedConn struct {
	net.Conn
	read, write time.Duration
}

func (c *timedConn) Read(b []byte) (int, error) {
	if c.read > 0 {
		if err := c.SetReadDeadline(time.Now().Add(c.read)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

func (c *timedConn) Write(b []byte) (int, error) {
	if c.write > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// urls are a member's addresses. All goroutines use the same one until it fails.
type urls struct {
	mu   sync.Mutex // guards the rest
	all  []string
	next int
}

// set replaces the addresses and tells whether that changed anything.
func (u *urls) set(all []string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(all) == 0 || strings.Join(all, ",") == strings.Join(u.all, ",") {
		return false
	}
	u.all, u.next = all, 0
	return true
}

func (u *urls) list() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all
}

func (u *urls) pick() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.all) == 0 {
		return ""
	}
	return u.all[u.next]
}

// failed moves on from an address, unless somebody else has.
func (u *urls) failed(which string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.all) > 0 && u.all[u.next] == which {
		u.next = (u.next + 1) % len(u.all)
	}
}

func hexID(id uint64) string { return strconv.FormatUint(id, 16) }
