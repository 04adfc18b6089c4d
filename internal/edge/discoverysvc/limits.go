package discoverysvc

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/recent"
)

const (
	// burstRates × Rate requests may come at once; newCost is what one for a token counts.
	burstRates = 5
	newCost    = RateDefault
	// addressesMax is how many addresses' rates are remembered: some 100 bytes each.
	addressesMax = 1 << 16
	// networkBits is what one IPv6 customer has: an address in it is as good as all.
	networkBits = 64
	// connsMax and connsAddressMax bound connections: in plain text one holds some 12 KiB, with TLS 50.
	connsMax        = 12_000
	connsAddressMax = 300
)

// limits is what one address may do.
type limits struct {
	rate    rate.Limit
	burst   int
	proxies []netip.Prefix
	clock   clock.Clock

	mu     sync.Mutex // guards that an address is entered once
	recent *recent.Map[netip.Addr, *rate.Limiter]
}

func newLimits(o Options) *limits {
	return &limits{
		rate: rate.Limit(o.Rate), burst: max(newCost, int(burstRates*o.Rate)), proxies: o.Proxies, clock: o.Clock,
		recent: recent.New[netip.Addr, *rate.Limiter](addressesMax),
	}
}

// allow tells whether an address may have something that costs so much now.
func (l *limits) allow(from netip.Addr, cost int) bool {
	l.mu.Lock()
	x, ok := l.recent.Get(from)
	if !ok {
		x = rate.NewLimiter(l.rate, l.burst)
		l.recent.Put(from, x)
	}
	l.mu.Unlock()
	return x.AllowN(l.clock.Now(), cost)
}

// address is who sent a request: the other end of the connection, or, where that is a proxy of ours, the last address that the
// request went through and that is none.
func (l *limits) address(r *http.Request) netip.Addr {
	at := parseAddress(r.RemoteAddr)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && l.ours(at); i-- {
		hop := parseAddress(strings.TrimSpace(hops[i]))
		if !hop.IsValid() {
			break
		}
		at = hop
	}
	return network(at)
}

func (l *limits) ours(a netip.Addr) bool {
	return slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// parseAddress reads an address with or without a port; it is not valid where there is none.
func parseAddress(text string) netip.Addr {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// network is what counts as one address.
func network(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(networkBits)
	if err != nil {
		return a
	}
	return p.Addr()
}

// errOften is returned to an address that asks more often than it may.
var errOften = errors.New("discovery: too many requests from one address")

// tooMany answers one who asks too often.
func (s *Service) tooMany(w http.ResponseWriter, r *http.Request) {
	if _, ok := parsePath(r.URL); ok {
		s.refuse(w, errOften)
		return
	}
	w.Header().Set("Retry-After", retryAfter)
	plain(w, http.StatusTooManyRequests, s.excuse(errOften)+"\n")
}

// Limit bounds the connections of a listener, in all and from one address. One too many is closed at once, so that those that
// are there go on.
func (s *Service) Limit(l net.Listener) net.Listener {
	return &limited{Listener: l, limits: s.limits, metrics: s.metrics, from: map[netip.Addr]int{}, max: connsMax}
}

type limited struct {
	net.Listener
	limits  *limits
	metrics *metrics
	max     int

	mu    sync.Mutex // guards the rest
	from  map[netip.Addr]int
	count int
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		full := parseAddress(c.RemoteAddr().String())
		at := network(full)
		if l.enter(at, l.limits.ours(full)) {
			return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(at) })}, nil
		}
		l.metrics.refused.WithLabelValues(refusedConnection).Inc()
		_ = c.Close() // it was never served
	}
}

func (l *limited) enter(at netip.Addr, proxy bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count >= l.max || l.from[at] >= connsAddressMax && !proxy {
		return false
	}
	l.count++
	l.metrics.connected.Inc()
	l.from[at]++
	return true
}

func (l *limited) leave(at netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	l.metrics.connected.Dec()
	if l.from[at]--; l.from[at] == 0 {
		delete(l.from, at)
	}
}

// limitedConn leaves when it is closed.
type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
