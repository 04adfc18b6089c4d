package discoverysvc

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

const (
	metricsPath = "/metrics"
	metricsName = "keelson_discovery_"
)

// Why a request or a connection was turned away, as the label says it.
const (
	refusedRate        = "rate"        // its address asks too often
	refusedFull        = "full"        // there are as many tokens as there may be
	refusedBusy        = "busy"        // too many requests wait or are under way
	refusedUnavailable = "unavailable" // the cluster that keeps the tokens does not answer
	refusedConnection  = "connections" // there are too many connections, in all or from one address
)

// metrics are the service's own. No label has a value that a stranger chooses.
type metrics struct {
	tokens, registered     prometheus.Counter
	refused                *prometheus.CounterVec
	requests               *prometheus.HistogramVec
	keys, waits, connected prometheus.Gauge
	handler                http.Handler
}

func newMetrics(r *prometheus.Registry, keysMax int) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: metricsName + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: metricsName + name, Help: help})
	}
	m := &metrics{
		tokens:     counter("tokens_created_total", "Tokens made."),
		registered: counter("members_registered_total", "Members that registered with a token."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsName + "refused_total", Help: "Requests and connections turned away, by the bound that they met.",
		}, []string{"reason"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: metricsName + "request_duration_seconds", Help: "How long requests took, by what they ask for and the status of the answer. Those that wait for a member may take minutes.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // from 0.5 ms to 8 s, past the time that the cluster is given
		}, []string{"request", "code"}),
		keys:      gauge("keys", "Keys of all tokens, when they were last counted: before each new token and registration, and at each look at /health."),
		waits:     gauge("waiting_requests", "Requests that wait for a member to register."),
		connected: gauge("connections", "Open connections."),
		handler:   promhttp.HandlerFor(r, promhttp.HandlerOpts{}),
	}
	for _, reason := range []string{refusedRate, refusedFull, refusedBusy, refusedUnavailable, refusedConnection} {
		m.refused.WithLabelValues(reason)
	}
	most := gauge("keys_max", "So many keys, and no new tokens are made.")
	most.Set(float64(keysMax))
	r.MustRegister(m.tokens, m.registered, m.refused, m.requests, m.keys, most, m.waits, m.connected)
	return m
}

// answered remembers what was answered.
type answered struct {
	http.ResponseWriter
	status int
}

func (a *answered) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find what is behind.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// kindOf is what a request asks for, in one of a few words.
func kindOf(r *http.Request) string {
	switch r.URL.Path {
	case "/", "/robots.txt":
		return "page"
	case newPath:
		return "new"
	case healthPath:
		return "health"
	case metricsPath:
		return "metrics"
	}
	if _, ok := parsePath(r.URL); !ok {
		return "other"
	}
	if r.Method == http.MethodPut {
		return "register"
	}
	if wait, err := strconv.ParseBool(r.URL.Query().Get("wait")); err == nil && wait {
		return "wait"
	}
	return "read"
}

// note counts a request that was answered. The log is told no path: whoever knows a token can use it.
func (s *Service) note(r *http.Request, status int, took time.Duration) {
	kind := kindOf(r)
	s.metrics.requests.WithLabelValues(kind, strconv.Itoa(status)).Observe(took.Seconds())
	s.o.Logger.Debug("answered a request", zap.String("request", kind), zap.Int("code", status), zap.String("from", r.RemoteAddr), zap.Duration("took", took))
}

// Monitoring serves /metrics and /health alone, to those who run the service: nothing bounds them.
func (s *Service) Monitoring() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(metricsPath, s.metrics.handler)
	mux.HandleFunc(healthPath, s.health)
	return mux
}
