package main

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/config"
	"keelson/internal/edge/health"
	"keelson/internal/server"
	"keelson/internal/state/lease"
)

// observed is what the member reports as it works, and the registry of all that /metrics shows.
type observed struct {
	registry                 *prometheus.Registry
	logSync, commit, applied prometheus.Histogram
	leases                   leaseMetrics
}

type leaseMetrics struct {
	granted, renewed, revoked, expired prometheus.Counter
	ttl                                prometheus.Histogram
}

func newLeaseMetrics() leaseMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return leaseMetrics{
		granted: counter("etcd_debugging_lease_granted_total", "Leases granted."),
		renewed: counter("etcd_debugging_lease_renewed_total", "Renewals that this member made, leading."),
		revoked: counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
		expired: counter("etcd_debugging_server_lease_expired_total", "Leases that this member ended, leading."),
		// From 1 s to 9 months, doubling.
		ttl: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "etcd_debugging_lease_ttl_total",
			Help: "Times to live of the leases granted, in seconds.", Buckets: prometheus.ExponentialBuckets(1, 2, 24)}),
	}
}

func (l leaseMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{l.granted, l.renewed, l.revoked, l.expired, l.ttl}
}

// newObserved makes histograms with etcd's buckets, so that old dashboards fit.
func newObserved() *observed {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	return &observed{
		registry: prometheus.NewRegistry(),
		leases:   newLeaseMetrics(),
		// From 1 ms to 8.192 s, doubling.
		logSync: histogram("etcd_disk_wal_fsync_duration_seconds", "How long a sync of the log took.", prometheus.ExponentialBuckets(0.001, 2, 14)),
		commit:  histogram("etcd_disk_backend_commit_duration_seconds", "How long a commit of the store took.", prometheus.ExponentialBuckets(0.001, 2, 14)),
		// From 0.1 ms to 52.4 s, doubling.
		applied: histogram("etcd_server_apply_duration_seconds", "How long one entry took to apply, on the average of its run.", prometheus.ExponentialBuckets(0.0001, 2, 20)),
	}
}

func (o *observed) observer() server.Observer {
	return server.Observer{
		LogSync:     func(d time.Duration) { o.logSync.Observe(d.Seconds()) },
		StoreCommit: func(d time.Duration) { o.commit.Observe(d.Seconds()) },
		Leases: lease.Observer{
			Granted: func(ttl int64) { o.leases.granted.Inc(); o.leases.ttl.Observe(float64(ttl)) },
			Revoked: o.leases.revoked.Inc, Renewed: o.leases.renewed.Inc,
		},
		LeaseExpired: o.leases.expired.Inc,
		Apply:        func(each time.Duration, entries int) { o.applied.Observe(each.Seconds()) },
	}
}

// register adds everything that exists beside the edges' own.
func (o *observed) register(m *server.Member, cfg *config.Config) {
	o.registry.MustRegister(o.logSync, o.commit, o.applied, newGauges(m), health.Gates(cfg.Gates, config.GateStages()))
	o.registry.MustRegister(o.leases.collectors()...)
	o.registry.MustRegister(health.ProcessCollectors()...)
	id := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "etcd_server_id", Help: "The member's ID, as a label; always 1."}, []string{"server_id"})
	id.WithLabelValues(strconv.FormatUint(m.ID(), 16)).Set(1)
	o.registry.MustRegister(id)
}

// A reading is all that one scrape asks the member, asked once.
type reading struct {
	status *pb.StatusResponse
	stats  server.Stats
	watch  watchers
}

type watchers struct{ streams, watchers, slow, pending int }

// A gauge is one number of a reading.
type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(reading) float64
}

// gauges reads the member when somebody scrapes, so that nothing is counted twice.
type gauges struct {
	member  *server.Member
	version *prometheus.Desc
	all     []gauge
}

func newGauges(m *server.Member) *gauges {
	g := &gauges{member: m, version: prometheus.NewDesc("etcd_cluster_version", "The version that the cluster speaks, as a label; always 1.", []string{"cluster_version"}, nil)}
	add := func(kind prometheus.ValueType, name, help string, read func(reading) float64) {
		g.all = append(g.all, gauge{prometheus.NewDesc(name, help, nil, nil), kind, read})
	}
	now, total := prometheus.GaugeValue, prometheus.CounterValue
	add(now, "etcd_server_has_leader", "1 while a leader is known.", func(r reading) float64 { return one(r.status.Leader != 0) })
	add(now, "etcd_server_is_leader", "1 while this member leads.", func(r reading) float64 { return one(r.status.Leader == m.ID()) })
	add(now, "etcd_server_is_learner", "1 while this member does not vote.", func(r reading) float64 { return one(r.status.IsLearner) })
	add(total, "etcd_server_leader_changes_seen_total", "Changes of leader that this member saw.", func(r reading) float64 { return float64(r.stats.LeaderChanges) })
	add(now, "etcd_server_proposals_committed_total", "The newest entry that is committed.", func(r reading) float64 { return float64(r.status.RaftIndex) })
	add(now, "etcd_server_proposals_applied_total", "The newest entry that is applied.", func(r reading) float64 { return float64(r.status.RaftAppliedIndex) })
	add(now, "etcd_server_proposals_pending", "Proposals that wait for their result.", func(r reading) float64 { return float64(r.stats.ProposalsPending) })
	add(total, "etcd_server_proposals_failed_total", "Proposals that came to nothing.", func(r reading) float64 { return float64(r.stats.ProposalsFailed) })
	add(total, "etcd_server_slow_apply_total", "Applies that took longer than --warning-apply-duration.", func(r reading) float64 { return float64(r.stats.SlowApplies) })
	add(now, "etcd_server_quota_backend_bytes", "Bytes that the store may take.", func(r reading) float64 { return float64(r.status.DbSizeQuota) })
	add(now, "etcd_mvcc_db_total_size_in_bytes", "Bytes of the store's file.", func(r reading) float64 { return float64(r.status.DbSize) })
	add(now, "etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the store's file that hold data.", func(r reading) float64 { return float64(r.status.DbSizeInUse) })
	add(now, "etcd_debugging_mvcc_current_revision", "The store's revision.", func(reading) float64 { return float64(m.Header().Revision) })
	add(now, "etcd_debugging_mvcc_watch_stream_total", "Watch streams that are open.", func(r reading) float64 { return float64(r.watch.streams) })
	add(now, "etcd_debugging_mvcc_watcher_total", "Watchers.", func(r reading) float64 { return float64(r.watch.watchers) })
	add(now, "etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind.", func(r reading) float64 { return float64(r.watch.slow) })
	add(now, "etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent.", func(r reading) float64 { return float64(r.watch.pending) })
	return g
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	to <- g.version
	for _, x := range g.all {
		to <- x.desc
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	status, err := g.member.Status(context.Background(), &pb.StatusRequest{})
	if err != nil {
		to <- prometheus.NewInvalidMetric(g.all[0].desc, err)
		return
	}
	r := reading{status: status, stats: g.member.Stats()}
	r.watch.streams, r.watch.watchers, r.watch.slow, r.watch.pending = g.member.Watch().Stats()
	for _, x := range g.all {
		to <- prometheus.MustNewConstMetric(x.desc, x.kind, x.read(r))
	}
	if cluster, _ := g.member.Versions(); len(cluster) > 2 {
		to <- prometheus.MustNewConstMetric(g.version, prometheus.GaugeValue, 1, cluster[:len(cluster)-len(".0")])
	}
}
