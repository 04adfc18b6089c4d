package main

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keelson/internal/config"
	"keelson/internal/edge/health"
	"keelson/internal/server"
	"keelson/internal/state/lease"
)

// observed is what the member reports as it works, and the registry of all that /metrics shows. Names, labels and buckets are
// etcd's, so that old dashboards fit.
type observed struct {
	registry *prometheus.Registry
	disk     diskMetrics
	reclaim  reclaimMetrics
	requests requestMetrics
	leases   leaseMetrics
	events   prometheus.Counter
}

func newObserved() *observed {
	r := prometheus.NewRegistry()
	return &observed{
		registry: r, disk: newDiskMetrics(r), reclaim: newReclaimMetrics(r), requests: newRequestMetrics(r), leases: newLeaseMetrics(r),
		events: newCounter(r, "etcd_debugging_mvcc_events_total", "Events sent to watchers."),
	}
}

func (o *observed) observer() server.Observer {
	w := server.Observer{
		Leases: lease.Observer{
			Granted: func(ttl int64) { o.leases.granted.Inc(); o.leases.ttl.Observe(float64(ttl)) },
			Revoked: o.leases.revoked.Inc, Renewed: o.leases.renewed.Inc,
		},
		LeaseExpired: o.leases.expired.Inc,
		Events:       func(n int) { o.events.Add(float64(n)) },
	}
	o.disk.observe(&w)
	o.reclaim.observe(&w)
	o.requests.observe(&w)
	return w
}

// register adds everything that exists beside the edges' own.
func (o *observed) register(m *server.Member, cfg *config.Config) {
	o.registry.MustRegister(newGauges(m), health.Gates(cfg.Gates, config.GateStages()))
	o.registry.MustRegister(health.ProcessCollectors()...)
	id := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "etcd_server_id", Help: "The member's ID, as a label; always 1."}, []string{"server_id"})
	id.WithLabelValues(hexID(m.ID())).Set(1)
	o.registry.MustRegister(id)
}

type leaseMetrics struct {
	granted, renewed, revoked, expired prometheus.Counter
	ttl                                prometheus.Histogram
}

func newLeaseMetrics(r prometheus.Registerer) leaseMetrics {
	return leaseMetrics{
		granted: newCounter(r, "etcd_debugging_lease_granted_total", "Leases granted."),
		renewed: newCounter(r, "etcd_debugging_lease_renewed_total", "Renewals that this member made, leading."),
		revoked: newCounter(r, "etcd_debugging_lease_revoked_total", "Leases revoked."),
		expired: newCounter(r, "etcd_debugging_server_lease_expired_total", "Leases that this member ended, leading."),
		// From 1 s to 9 months, doubling.
		ttl: newHistogram(r, "etcd_debugging_lease_ttl_total", "Times to live of the leases granted, in seconds.", prometheus.ExponentialBuckets(1, 2, 24)),
	}
}

func newCounter(r prometheus.Registerer, name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.MustRegister(c)
	return c
}

func newHistogram(r prometheus.Registerer, name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	r.MustRegister(h)
	return h
}

// seconds gives what h is told durations with.
func seconds(h prometheus.Observer) func(time.Duration) {
	return func(d time.Duration) { h.Observe(d.Seconds()) }
}

// outcome is what a series of an outcomes histogram is found by.
type outcome struct {
	kind string
	ok   bool
}

// outcomes is a histogram of durations by kind and success. A series that was used before is found without hashing its labels,
// which every request would pay for. There are at most twice as many as there are kinds of requests.
type outcomes struct {
	vec    *prometheus.HistogramVec
	labels func(outcome) prometheus.Labels
	known  atomic.Pointer[map[outcome]prometheus.Observer]
}

func newOutcomes(r prometheus.Registerer, o prometheus.HistogramOpts, names []string, labels func(outcome) prometheus.Labels) *outcomes {
	h := &outcomes{vec: prometheus.NewHistogramVec(o, names), labels: labels}
	h.known.Store(&map[outcome]prometheus.Observer{})
	r.MustRegister(h.vec)
	return h
}

func (h *outcomes) observe(kind string, ok bool, took time.Duration) {
	key := outcome{kind, ok}
	known := h.known.Load()
	series, found := (*known)[key]
	if !found {
		series = h.vec.With(h.labels(key))
		more := make(map[outcome]prometheus.Observer, len(*known)+1)
		for k, v := range *known {
			more[k] = v
		}
		more[key] = series
		h.known.CompareAndSwap(known, &more) // whoever comes second looks it up once more
	}
	series.Observe(took.Seconds())
}
