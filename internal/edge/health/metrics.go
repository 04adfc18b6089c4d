package health

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.etcd.io/etcd/api/v3/version"
)

// metrics count how checks went.
type metrics struct {
	success, failure prometheus.Counter
	result           *prometheus.GaugeVec   // type, name: 1 when the last one was good
	total            *prometheus.CounterVec // type, name, status
}

func newMetrics() *metrics {
	return &metrics{
		success: prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_server_health_success", Help: "Health checks at /health that passed."}),
		failure: prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_server_health_failures", Help: "Health checks at /health that failed."}),
		result: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "etcd_server_healthcheck", Help: "How each check of /livez and /readyz last went: 1 for good."},
			[]string{"type", "name"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_server_healthchecks_total", Help: "How often each check of /livez and /readyz ran."},
			[]string{"type", "name", "status"}),
	}
}

func (m *metrics) record(kind, name string, good bool) {
	status, value := "error", 0.0
	if good {
		status, value = "success", 1
	}
	m.result.WithLabelValues(kind, name).Set(value)
	m.total.WithLabelValues(kind, name, status).Inc()
}

// Collectors are the metrics of this edge.
func (e *Edge) Collectors() []prometheus.Collector {
	return []prometheus.Collector{e.metrics.success, e.metrics.failure, e.metrics.result, e.metrics.total}
}

// ProcessCollectors are the metrics of the process: Go's, the operating system's, and the versions.
func ProcessCollectors() []prometheus.Collector {
	return []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		constant("etcd_server_version", "The version that this server speaks, as a label; always 1.", "server_version", version.Version),
		constant("etcd_server_go_version", "The version of Go that this server was built with, as a label; always 1.", "server_go_version", runtime.Version()),
		descriptors("os_fd_used", "How many file descriptors are open.", func(used, _ uint64) uint64 { return used }),
		descriptors("os_fd_limit", "How many file descriptors may be open.", func(_, limit uint64) uint64 { return limit }),
	}
}

// Gates are the metrics of feature gates: one series a gate, 1 when it is on. stages gives ALPHA or BETA by name.
func Gates(on map[string]bool, stages map[string]string) prometheus.Collector {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "etcd_server_feature_enabled", Help: "Which feature gates are on: 1 for on."}, []string{"name", "stage"})
	for name, stage := range stages {
		value := 0.0
		if on[name] {
			value = 1
		}
		v.WithLabelValues(name, stage).Set(value)
	}
	return v
}

func constant(name, help, label, value string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	g.WithLabelValues(value).Set(1)
	return g
}

func descriptors(name, help string, pick func(used, limit uint64) uint64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
		used, limit, err := fileDescriptors()
		if err != nil {
			return 0
		}
		return float64(pick(used, limit))
	})
}
