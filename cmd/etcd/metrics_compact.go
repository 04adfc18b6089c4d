package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keelson/internal/server"
	"keelson/internal/storage/store"
)

// reclaimMetrics is what giving space back costs: compactions and defragmentations of the state file.
type reclaimMetrics struct {
	piece, compaction, defrag prometheus.Histogram
	last                      prometheus.Gauge
	revs                      prometheus.Counter
}

func newReclaimMetrics(r prometheus.Registerer) reclaimMetrics {
	m := reclaimMetrics{
		piece: newHistogram(r, "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "How long a piece of a compaction of the state file took.",
			prometheus.ExponentialBuckets(1, 2, 13)),
		compaction: newHistogram(r, "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "How long a compaction of the state file took.",
			prometheus.ExponentialBuckets(100, 2, 14)),
		defrag: newHistogram(r, "etcd_disk_backend_defrag_duration_seconds", "How long a defragmentation of the state file took.", prometheus.ExponentialBuckets(.1, 2, 13)),
		last: prometheus.NewGauge(prometheus.GaugeOpts{Name: "etcd_debugging_mvcc_db_compaction_last",
			Help: "When the last compaction of the state file ended, as Unix time; 0: none since the start."}),
		revs: prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_debugging_mvcc_db_compaction_keys_total",
			Help: "Revisions that compactions deleted from the state file."}),
	}
	r.MustRegister(m.last, m.revs)
	return m
}

func (m *reclaimMetrics) observe(o *server.Observer) {
	milliseconds := func(h prometheus.Histogram) func(time.Duration) {
		return func(d time.Duration) { h.Observe(float64(d) / float64(time.Millisecond)) }
	}
	total := milliseconds(m.compaction)
	o.Store = store.Observer{
		Piece:  milliseconds(m.piece),
		Defrag: seconds(m.defrag),
		Compaction: func(took time.Duration, revs int) {
			total(took)
			m.revs.Add(float64(revs))
			m.last.SetToCurrentTime()
		},
	}
}
