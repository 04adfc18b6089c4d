package main

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keelson/internal/server"
)

// requestMetrics is how long requests took: from end to end, and to apply or to read.
type requestMetrics struct{ request, apply, ranged *outcomes }

func newRequestMetrics(r prometheus.Registerer) requestMetrics {
	// From 0.1 ms to 52.4 s, doubling.
	applying := prometheus.ExponentialBuckets(0.0001, 2, 20)
	return requestMetrics{
		request: newOutcomes(r, prometheus.HistogramOpts{
			Name: "etcd_server_request_duration_seconds", Help: "How long requests took in this member, by what they asked for.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // to 8.192 s
		}, []string{"type", "success"}, func(o outcome) prometheus.Labels {
			return prometheus.Labels{"type": o.kind, "success": strconv.FormatBool(o.ok)}
		}),
		apply: newOutcomes(r, prometheus.HistogramOpts{
			Name: "etcd_server_apply_duration_seconds", Help: "How long entries took to apply, by what they asked for.", Buckets: applying,
		}, []string{"version", "op", "success"}, func(o outcome) prometheus.Labels {
			return prometheus.Labels{"version": "v3", "op": o.kind, "success": strconv.FormatBool(o.ok)}
		}),
		ranged: newOutcomes(r, prometheus.HistogramOpts{
			Name: "etcd_server_range_duration_seconds", Help: "How long ranges took to read, once this member was up to date.", Buckets: applying,
		}, []string{"success"}, func(o outcome) prometheus.Labels {
			return prometheus.Labels{"success": strconv.FormatBool(o.ok)}
		}),
	}
}

func (m *requestMetrics) observe(o *server.Observer) {
	o.Request = m.request.observe
	o.Apply = m.apply.observe
	o.Range = func(ok bool, took time.Duration) { m.ranged.observe("", ok, took) }
}
