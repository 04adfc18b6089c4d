// Package access is what an HTTP request on a client port passes before any edge sees it: may a name of this server be
// called by (--host-whitelist), and which origins do browsers get answers for (--cors). cmd/etcd puts it around all that
// the client ports serve; gRPC does not pass here.
//
// Codes and headers are those of etcd 3.7.3.
package access

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/logging"
)

// everybody in a list stands for all there are; an empty list does too.
const everybody = "*"

// Options say who may call.
type Options struct {
	// Origins are those that browsers may call from, as "https://example.com".
	Origins []string
	// Hosts are the names and addresses that requests in plain text may carry in their Host header, without a port. A page of
	// a stranger whose name suddenly points here ("DNS rebinding") carries its own.
	Hosts  []string
	Logger *zap.Logger
	Clock  clock.Clock
}

// guard lets requests through to next.
type guard struct {
	next           http.Handler
	origins, hosts []string // nil: all
	log            *zap.Logger
	seldom         *logging.Seldom
}

// Guard puts the checks before next.
func Guard(next http.Handler, o Options) http.Handler {
	return &guard{next, listed(o.Origins), listed(o.Hosts), o.Logger, logging.NewSeldom(o.Clock)}
}

// listed is nil where a list lets everybody through.
func listed(list []string) []string {
	if len(list) == 0 || slices.Contains(list, everybody) {
		return nil
	}
	return list
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if host := hostOf(r); r.TLS == nil && g.hosts != nil && !slices.Contains(g.hosts, host) {
		g.misdirected(w, r, host)
		return
	}
	origin := r.Header.Get("Origin")
	switch {
	case g.origins == nil:
		allow(w.Header(), everybody)
	case slices.Contains(g.origins, origin):
		w.Header().Add("Vary", "Origin")
		allow(w.Header(), origin)
	case origin != "" && asksForWebSocket(r) && !sameHost(origin, r.Host):
		// A browser shows a page every WebSocket that is opened: nobody but the server can keep a stranger's page out.
		http.Error(w, fmt.Sprintf("WebSockets from %q are not allowed: add it to --cors", origin), http.StatusForbidden)
		return
	}
	if r.Method == http.MethodOptions {
		return
	}
	g.next.ServeHTTP(w, r)
}

// misdirected refuses a name that is not this server's.
func (g *guard) misdirected(w http.ResponseWriter, r *http.Request, host string) {
	if g.seldom.Due(host) {
		g.log.Warn("rejecting HTTP request to prevent DNS rebinding attacks", zap.String("host", host), zap.String("remote-addr", r.RemoteAddr))
	}
	http.Error(w, fmt.Sprintf("The Host header %q names no server that answers here: call it by a name in --host-whitelist, add this one to it, or use HTTPS", host),
		http.StatusMisdirectedRequest)
}

// hostOf is the Host header without its port, or as it is where it has none.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		return r.Host
	}
	return host
}

func allow(h http.Header, origin string) {
	h.Add("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
	h.Add("Access-Control-Allow-Origin", origin)
	h.Add("Access-Control-Allow-Headers", "accept, content-type, authorization")
}

func asksForWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// sameHost tells whether a page came from this server itself.
func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}
