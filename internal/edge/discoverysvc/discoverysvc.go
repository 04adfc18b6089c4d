// Package discoverysvc is the HTTP edge of the discovery service: GET /new answers a fresh URL, and the founders of a cluster
// that are started with --discovery on that URL find each other below it, by the part of etcd's v2 keys protocol that their
// discovery client speaks. cmd/etcd serves it as `etcd discovery start`, over a member in its own process or over a cluster.
//
// A token is a v2 directory by its name, 32 random hex digits, laid out by package v2tree below a prefix of the service's own:
//
//	/TOKEN               the directory; its expiry is the token's
//	/TOKEN/_config/size  how many members found the cluster
//	/TOKEN/ID            a member's name and peer URLs, as it registered them
//
// All keys of a token are attached to one lease, and go with it. A key is written once and never changed, so a request that
// waits needs no history of events: what it asks for is in the newest state, or yet to come. A lease begins anew where the
// cluster loses its leader, so the expiry in the directory's key counts as well; sweeping ends what is past it.
//
// Whoever can send a request is a stranger here. There is no way to a key that is not of the token in the path, and everything
// that a stranger can cause is bounded: tokens, members of each, bytes, requests a second, connections and waiting requests.
package discoverysvc

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/state/v2tree"
)

// DefaultPrefix is where tokens are kept unless the user chose another place.
const DefaultPrefix = "/_discovery/"

const (
	// SizeDefault and SizeMax are the founders of a cluster: by default, and at most. Nobody has that many members that vote.
	SizeDefault = 3
	SizeMax     = 100
	// Lifetime is how long a token is there.
	Lifetime = 7 * 24 * time.Hour
	// TokensMaxDefault, with the bounds of a token below, makes at most 100,000 keys of some 2 KiB: a tenth of the quota.
	TokensMaxDefault = 10_000
	// RateDefault is the requests a second of one address. A member makes about seven, and one for each that comes after it.
	RateDefault = 20
	// timeoutDefault bounds what a request may wait for the cluster.
	timeoutDefault = 7 * time.Second
	// callsMax bounds the calls to the cluster at once; more wait for their turn.
	callsMax = 256
)

// Store is the services of the cluster that keeps the tokens.
type Store struct {
	KV    pb.KVClient
	Lease pb.LeaseClient
	Watch pb.WatchClient
}

// Options say how the service serves. Advertise and Clock are required; everything else has a default.
type Options struct {
	// Advertise is the URL that tokens are below, as members reach it, without a slash at its end.
	Advertise string
	Prefix    v2tree.Prefix
	// TokensMax is about how many tokens there may be at once: more, once clusters are smaller than eight keys.
	TokensMax int
	// Rate is how many requests a second one address may send; GET /new and /metrics count as RateDefault of them.
	Rate float64
	// Proxies are the addresses that are believed when they say for whom they ask.
	Proxies []netip.Prefix
	Timeout time.Duration
	Clock   clock.Clock
	Logger  *zap.Logger
	// Registry is what /metrics shows, and takes the service's own metrics; nil for those alone.
	Registry *prometheus.Registry
	// MetricsApart keeps /metrics from those who ask for tokens: Monitoring alone serves it.
	MetricsApart bool
}

// Service serves tokens. Its goroutines begin with New and end with Close.
type Service struct {
	o       Options
	tokens  *tokens
	limits  *limits
	waits   *waits
	metrics *metrics
	stop    context.CancelFunc
	running sync.WaitGroup
}

// New makes the service and starts to follow its tokens.
func New(store Store, o Options) *Service {
	s := build(store, o)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.follow(ctx) })
	s.running.Go(func() { s.tokens.sweepOften(ctx) })
	return s
}

// build makes a service that follows nothing yet.
func build(store Store, o Options) *Service {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.TokensMax == 0 {
		o.TokensMax = TokensMaxDefault
	}
	if o.Rate == 0 {
		o.Rate = RateDefault
	}
	if o.Timeout == 0 {
		o.Timeout = timeoutDefault
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	m := newMetrics(o.Registry, keysForNew*o.TokensMax)
	return &Service{o: o, tokens: newTokens(store, o, m.keys), limits: newLimits(o), waits: newWaits(m.waits), metrics: m}
}

// Close ends every waiting request and the goroutines, and joins those.
func (s *Service) Close() {
	s.stop()
	s.waits.close()
	s.running.Wait()
}

// ServeHTTP serves everything. There is no mux: that would send a request for a path that is not clean on to another one.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := s.o.Clock.Now()
	r.Body = http.MaxBytesReader(w, r.Body, bodyBytesMax) // it wants to see w itself
	a := &answered{w, http.StatusOK}
	s.serve(a, r)
	s.note(r, a.status, s.o.Clock.Now().Sub(begun))
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	cost := 1
	if r.URL.Path == newPath || r.URL.Path == metricsPath {
		cost = newCost
	}
	from := s.limits.address(r)
	if !s.limits.allow(from, cost) {
		s.tooMany(w, r)
		return
	}
	switch path := r.URL.Path; {
	case path == "/":
		s.page(w, r)
	case path == newPath:
		s.newToken(w, r)
	case path == healthPath:
		s.health(w, r)
	case path == metricsPath && !s.o.MetricsApart:
		if reads(w, r) {
			s.metrics.handler.ServeHTTP(w, r)
		}
	case path == "/robots.txt":
		plain(w, http.StatusOK, "User-agent: *\nDisallow: /\n")
	default:
		s.keys(w, r, from)
	}
}

// health tells whether tokens can be made and read, in the form of a member's.
func (s *Service) health(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	err := s.tokens.within(r.Context(), func(ctx context.Context) error {
		_, err := s.tokens.count(ctx)
		return err
	})
	status, body := http.StatusOK, `{"health":"true","reason":""}`
	if err != nil {
		s.tokens.failed(err)
		status, body = http.StatusServiceUnavailable, `{"health":"false","reason":"the cluster that keeps the tokens does not answer"}`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a client that has gone needs no answer
}

// reads refuses a method that does more than to read.
func reads(w http.ResponseWriter, r *http.Request) bool {
	return allow(w, r, http.MethodGet, http.MethodHead)
}

// allow answers 405 to a method that is not one of some.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	list := ""
	for _, m := range methods {
		if r.Method == m {
			return true
		}
		list += ", " + m
	}
	w.Header().Set("Allow", list[2:])
	plain(w, http.StatusMethodNotAllowed, "this address takes"+list[1:]+"\n")
	return false
}

// plain answers with a line of text.
func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a client that has gone needs no answer
}
