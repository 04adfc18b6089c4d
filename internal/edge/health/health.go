// Package health is the HTTP edge for whoever watches over a member: /health, /livez, /readyz, /version, /metrics and
// /debug. Bodies, codes and headers are those of etcd 3.7.3, byte for byte, since scripts and probes match on them.
//
// cmd/etcd serves Client on the client ports and Metrics on --listen-metrics-urls; the peer port answers Version too.
package health

import (
	"context"
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"

	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
)

// Member is what this edge asks of the member.
type Member interface {
	// Alarms lists the alarms that are raised anywhere in the cluster.
	Alarms() []*pb.AlarmMember
	HasLeader() bool
	IsLearner() bool
	Range(ctx context.Context, r *pb.RangeRequest) (*wire.RangeResponse, error)
	// Versions are the cluster's and the storage's, such as "3.7.0"; empty while undecided.
	Versions() (cluster, storage string)
}

// Options say what is served beside the checks.
type Options struct {
	// Timeout bounds the reads of one check; it should be what a client's request gets.
	Timeout time.Duration
	// Registry is what /metrics shows; how often it does is counted there too.
	Registry *prometheus.Registry
	// Pprof serves Go's profiles.
	Pprof  bool
	Logger *zap.Logger
}

// Edge serves the checks of one member.
type Edge struct {
	member  Member
	options Options
	metrics *metrics
}

// New makes the edge. Collectors are its own metrics, for the caller to register.
func New(m Member, o Options) *Edge {
	return &Edge{member: m, options: o, metrics: newMetrics()}
}

// Client is the handler for the client ports: everything.
func (e *Edge) Client() http.Handler {
	mux := http.NewServeMux()
	e.checks(mux)
	mux.HandleFunc("/version", e.version)
	mux.HandleFunc("/debug/vars", vars)
	if e.options.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// Metrics is the handler for --listen-metrics-urls: the metrics and the checks alone.
func (e *Edge) Metrics() http.Handler {
	mux := http.NewServeMux()
	e.checks(mux)
	return mux
}

// Version is the handler of /version alone, for the peer port.
func (e *Edge) Version() http.Handler { return http.HandlerFunc(e.version) }

func (e *Edge) checks(mux *http.ServeMux) {
	mux.HandleFunc("/health", e.health)
	mux.Handle("/metrics", promhttp.InstrumentMetricHandler(e.options.Registry, promhttp.HandlerFor(e.options.Registry, promhttp.HandlerOpts{})))
	e.probes("livez", []check{e.serializableRead()}, mux)
	e.probes("readyz", []check{e.noCorruption(), e.serializableRead(), e.linearizableRead(), e.noLearner()}, mux)
}

// onlyGet answers 405 to every other method, HEAD included.
func onlyGet(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// verdict is the body of /health; the order of its fields is part of it.
type verdict struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// health looks at alarms, then for a leader, then reads. ?serializable=true asks about this member alone,
// ?exclude=NOSPACE passes over an alarm.
func (e *Edge) health(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	query := r.URL.Query()
	reason := e.sickness(r.Context(), query["exclude"], query.Get("serializable") == "true")
	v := verdict{Health: "true"}
	if reason != "" {
		v = verdict{Health: "false", Reason: reason}
	}
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if reason != "" {
		e.metrics.failure.Inc()
		http.Error(w, string(body), http.StatusServiceUnavailable)
		e.options.Logger.Warn("/health error", zap.String("output", string(body)), zap.Int("status-code", http.StatusServiceUnavailable))
		return
	}
	e.metrics.success.Inc()
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// sickness is the reason of an unhealthy member, or empty.
func (e *Edge) sickness(ctx context.Context, excluded []string, serializable bool) string {
	for _, a := range e.member.Alarms() {
		if !contains(excluded, a.Alarm.String()) {
			e.options.Logger.Warn("serving /health false due to an alarm", zap.Stringer("alarm", a))
			return alarmReason(a.Alarm)
		}
	}
	if !serializable && !e.member.HasLeader() {
		e.options.Logger.Warn("serving /health false; no leader")
		return "RAFT NO LEADER"
	}
	if err := e.read(ctx, serializable); err != nil {
		e.options.Logger.Warn("serving /health false; Range fails", zap.Error(err))
		return "RANGE ERROR:" + err.Error()
	}
	return ""
}

func alarmReason(a pb.AlarmType) string {
	switch a {
	case pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT:
		return "ALARM " + a.String()
	}
	return "ALARM UNKNOWN"
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}

// read proves that the member answers reads: it asks for one key that nobody uses.
func (e *Edge) read(ctx context.Context, serializable bool) error {
	ctx, cancel := context.WithTimeout(ctx, e.options.Timeout)
	defer cancel()
	_, err := e.member.Range(auth.Itself(ctx), &pb.RangeRequest{Key: []byte{0}, KeysOnly: true, Serializable: serializable})
	return err
}

// version tells what this server, its cluster and its storage speak.
func (e *Edge) version(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	cluster, storage := e.member.Versions()
	if cluster == "" {
		cluster = "not_decided"
	}
	if storage == "" {
		storage = "unknown"
	}
	body, err := json.Marshal(version.Versions{Server: version.Version, Cluster: cluster, Storage: storage})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// vars shows what package expvar publishes.
func vars(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	separator := "{\n"
	expvar.Do(func(kv expvar.KeyValue) {
		fmt.Fprintf(w, "%s%q: %s", separator, kv.Key, kv.Value)
		separator = ",\n"
	})
	fmt.Fprint(w, "\n}\n")
}
