package grpcproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
)

const (
	// healthTime bounds one check of health: etcd's time of a request.
	healthTime = 5 * time.Second
	// healthKey is read for it, as by etcd: whether it is there does not matter.
	healthKey = "a"
	// metricsTime and metricsBytesMax bound what a member answers.
	metricsTime     = 5 * time.Second
	metricsBytesMax = 32 << 20
	// ownMetrics is what the names of the proxy's own metrics begin with. A stock member has them too, always at zero.
	ownMetrics = "etcd_grpc_proxy_"
)

// Handler serves what is not gRPC:
//
//	/health         whether the cluster answers
//	/proxy/health   whether it does through this proxy's own services
//	/metrics        those of one member, with this proxy's etcd_grpc_proxy_* among them
//	/proxy/metrics  all of this process
//	/debug/pprof/   with Options.Profiles, and only where profiles is set
func (s *Server) Handler(profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) { s.answerHealth(w, r, s.askCluster) })
	mux.HandleFunc("/proxy/health", func(w http.ResponseWriter, r *http.Request) { s.answerHealth(w, r, s.askSelf) })
	mux.HandleFunc("/metrics", s.answerMetrics)
	mux.Handle("/proxy/metrics", promhttp.HandlerFor(s.all, promhttp.HandlerOpts{}))
	if profiles && s.o.Profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// healthAnswer is the body of a check, as etcd's.
type healthAnswer struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// answerHealth asks and tells. Who is refused for want of a token has been answered by a cluster that works.
func (s *Server) answerHealth(w http.ResponseWriter, r *http.Request, ask func(context.Context) error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), healthTime)
	defer cancel()
	a, code := healthAnswer{Health: "true"}, http.StatusOK
	if err := ask(ctx); err != nil && !refused(err) {
		a, code = healthAnswer{"false", "GET ERROR:" + rpctypes.Error(err).Error()}, http.StatusServiceUnavailable
		s.o.Logger.Warn("health check failed", zap.String("path", r.URL.Path), zap.Error(err))
	}
	body, err := json.Marshal(a)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(body) // who went away is told nothing
}

func (s *Server) askCluster(ctx context.Context) error {
	_, err := s.u.Get(ctx, healthKey)
	return err
}

func (s *Server) askSelf(ctx context.Context) error {
	_, err := s.kv.Get(ctx, healthKey)
	return err
}

// answerMetrics gives a member's metrics, whichever answers first of all in random order, and the proxy's own. A proxy alone
// still tells its own.
func (s *Server) answerMetrics(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	var failed []error
	members := s.u.Endpoints()
	for _, i := range rand.Perm(len(members)) {
		err := s.fetchMetrics(r.Context(), members[i], &body)
		if err == nil {
			break
		}
		failed = append(failed, err)
		body.Reset()
	}
	if body.Len() == 0 {
		s.o.Logger.Warn("no member gave its metrics", zap.Error(errors.Join(failed...)))
	}
	families, err := s.own.Gather()
	for _, f := range families {
		if err == nil {
			_, err = expfmt.MetricFamilyToText(&body, f)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = w.Write(body.Bytes()) // likewise
}

// fetchMetrics appends a member's metrics but for those that are the proxy's to tell.
func (s *Server) fetchMetrics(ctx context.Context, member string, to *bytes.Buffer) error {
	ctx, cancel := context.WithTimeout(ctx, metricsTime)
	defer cancel()
	if !strings.Contains(member, "://") {
		member = "http://" + member
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, member+"/metrics", nil)
	if err != nil {
		return fmt.Errorf("metrics of %s: %w", member, err)
	}
	resp, err := s.o.HTTP.Do(r)
	if err != nil {
		return fmt.Errorf("metrics of %s: %w", member, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("metrics of %s: %s", member, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, metricsBytesMax))
	if err != nil {
		return fmt.Errorf("metrics of %s: %w", member, err)
	}
	for line := range bytes.Lines(text) {
		name := bytes.TrimPrefix(bytes.TrimPrefix(line, []byte("# HELP ")), []byte("# TYPE "))
		if !bytes.HasPrefix(name, []byte(ownMetrics)) {
			to.Write(line)
		}
	}
	return nil
}
