package discoverysvc

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"keelson/internal/kit/clock"
)

// One address that asks too often is sent away for a while, others are not.
func TestRate(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Rate, o.Clock = 2, &later{Clock: stopped{clock.System}} })
	from := func(address string) func(*http.Request) {
		return func(r *http.Request) { r.RemoteAddr = address }
	}
	busy := from("10.0.0.1:1")
	a := s.want(http.StatusOK, 0, "GET", "/new", "", busy) // it counts as all that may come at once
	token := a.body[len(a.body)-tokenDigits-1:]
	if a := s.want(http.StatusTooManyRequests, 0, "GET", "/new", "", busy); a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	s.want(http.StatusTooManyRequests, 0, "GET", "/", "", busy)
	// Members would give up at a 429.
	s.want(http.StatusServiceUnavailable, 300, "GET", token, "", from("10.0.0.1:2"))
	s.want(http.StatusOK, 0, "GET", token, "", from("10.0.0.2:1"))
	s.clock.by.Store(int64(time.Second))
	s.want(http.StatusOK, 0, "GET", token, "", busy)
	s.want(http.StatusOK, 0, "GET", token, "", busy)
	s.want(http.StatusServiceUnavailable, 300, "GET", token, "", busy)
	s.want(http.StatusOK, 0, "GET", "/new", "", from("[2001:db8::1]:1"))
	s.want(http.StatusTooManyRequests, 0, "GET", "/new", "", from("[2001:db8::2]:1")) // the same customer's
	s.want(http.StatusOK, 0, "GET", "/new", "", from("[2001:db8:0:1::1]:1"))
}

func TestAddress(t *testing.T) {
	l := newLimits(Options{Rate: 1, Clock: clock.System, Proxies: prefixes("10.0.0.0/8", "2001:db8::1/128")})
	for _, x := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.1", "192.0.2.1"}, // anybody can write the header
		{"10.0.0.1:5", "198.51.100.1", "198.51.100.1"},
		{"10.0.0.1:5", "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"},
		{"10.0.0.1:5", "10.0.0.3, 10.0.0.2", "10.0.0.3"},
		{"10.0.0.1:5", "198.51.100.1, nonsense", "10.0.0.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"10.0.0.1:5", "198.51.100.1:4711", "198.51.100.1"},
		{"[::ffff:192.0.2.1]:5", "", "192.0.2.1"},
		{"[2001:db8::1]:5", "2001:db8:1:2:3::4", "2001:db8:1:2::"},
		{"[2001:db8::2]:5", "198.51.100.1", "2001:db8::"},
		{"[fe80::1%eth0]:5", "", "fe80::"},
		{"@", "", "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = x.remote
		if x.forwarded != "" {
			r.Header.Set("X-Forwarded-For", x.forwarded)
		}
		if got := l.address(r).String(); got != x.want {
			t.Errorf("%+v: %s", x, got)
		}
	}
}

// pipes is a listener of connections from one address.
type pipes struct {
	net.Listener
	from string
}

type pipeFrom struct {
	net.Conn
	from net.Addr
}

func (c pipeFrom) RemoteAddr() net.Addr { return c.from }

func (p *pipes) Accept() (net.Conn, error) {
	a, _ := net.Pipe()
	return pipeFrom{a, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(p.from))}, nil
}

func TestConnections(t *testing.T) {
	s := build(Store{}, Options{Rate: 1, Clock: clock.System, Proxies: prefixes("10.9.0.0/16")})
	from := &pipes{from: "10.0.0.1:1"}
	l := s.Limit(from).(*limited)
	var open []net.Conn
	for range connsAddressMax {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	stranger := netip.MustParseAddr("10.0.0.1")
	if l.enter(stranger, false) {
		t.Error("one address has connections without bound")
	}
	from.from = "10.9.0.1:1"
	for range connsAddressMax + 1 { // a proxy has many people's
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	l.max = l.count
	if l.enter(netip.MustParseAddr("10.0.0.2"), false) || l.enter(netip.MustParseAddr("10.9.0.1"), true) {
		t.Error("there is no bound on all connections")
	}
	for range 2 { // closing twice counts once
		for _, c := range open {
			c.Close()
		}
	}
	if l.count != 0 || len(l.from) != 0 {
		t.Errorf("%d connections of %d addresses are left", l.count, len(l.from))
	}
}
