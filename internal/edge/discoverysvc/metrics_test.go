package discoverysvc

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/kit/clock"
)

// metrics reads /metrics, sorted lines of the service's own.
func (s *site) metrics() []string {
	s.t.Helper()
	var own []string
	for line := range strings.Lines(s.want(http.StatusOK, 0, "GET", "/metrics", "").body) {
		if strings.HasPrefix(line, metricsName) {
			own = append(own, strings.TrimSpace(line))
		}
	}
	return own
}

func (s *site) wantMetrics(lines ...string) {
	s.t.Helper()
	got := s.metrics()
	for _, line := range lines {
		if !slices.Contains(got, metricsName+line) {
			s.t.Errorf("no %s in\n%s", line, strings.Join(got, "\n"))
		}
	}
}

// What happens is counted, under names and labels of the service's own choice.
func TestMetrics(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	s := newSite(t, func(o *Options) { o.TokensMax, o.Logger = 1, zap.New(core) })
	s.wantMetrics("tokens_created_total 0", "members_registered_total 0", `refused_total{reason="rate"} 0`, "keys_max 8", "waiting_requests 0")
	token := s.token("2")
	waiting := s.waits(token + "?wait=true&recursive=true")
	s.wantMetrics("waiting_requests 1")
	s.want(http.StatusCreated, 0, "PUT", token+"/m0", "value=a")
	if body, err := io.ReadAll(waiting.body); err != nil || len(body) == 0 {
		t.Fatalf("%q, %v", body, err)
	}
	s.want(http.StatusPreconditionFailed, 105, "PUT", token+"/m0", "value=a")
	s.want(http.StatusNotFound, 100, "GET", "/nonsense", "")
	s.want(http.StatusNotFound, 100, "GET", "/"+strings.Repeat("0", tokenDigits), "")
	s.want(http.StatusOK, 0, "GET", "/", "")
	for range 2 {
		s.token("1")
	}
	s.want(http.StatusServiceUnavailable, 0, "GET", "/new", "") // 4 + 3 + 3 keys
	s.wantMetrics(
		"tokens_created_total 3", "members_registered_total 1", "keys 10", `refused_total{reason="full"} 1`,
		`request_duration_seconds_count{code="200",request="new"} 3`, `request_duration_seconds_count{code="503",request="new"} 1`,
		`request_duration_seconds_count{code="201",request="register"} 1`, `request_duration_seconds_count{code="412",request="register"} 1`,
		`request_duration_seconds_count{code="404",request="other"} 1`, `request_duration_seconds_count{code="404",request="read"} 1`,
		`request_duration_seconds_count{code="200",request="page"} 1`,
	)
	s.want(http.StatusMethodNotAllowed, 0, "POST", "/metrics", "")
	told := logs.FilterMessage("answered a request")
	if told.FilterField(zap.String("request", "register")).FilterField(zap.Int("code", http.StatusCreated)).Len() != 1 {
		t.Errorf("%v", told.All())
	}
	for _, l := range told.All() {
		for _, f := range l.Context {
			if strings.Contains(f.String, token[1:]) {
				t.Errorf("the log has a token: %v", l)
			}
		}
	}
}

// Who asks too often and who has too many connections is counted, each once.
func TestMetricsOfRefusals(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Rate, o.Clock = 2, &later{Clock: stopped{clock.System}} })
	s.want(http.StatusOK, 0, "GET", "/new", "") // all that may come at once
	s.want(http.StatusTooManyRequests, 0, "GET", "/", "")
	s.want(http.StatusServiceUnavailable, 300, "GET", "/"+strings.Repeat("0", tokenDigits), "")
	l := s.service.Limit(&pipes{from: "10.0.0.1:1"}).(*limited)
	l.max = 1
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if l.enter(netip.MustParseAddr("10.0.0.2"), false) {
		t.Error("there is no bound on connections")
	}
	s.clock.by.Store(int64(time.Hour))
	s.wantMetrics(`refused_total{reason="rate"} 2`, `refused_total{reason="busy"} 0`, "connections 1")
	c.Close()
	s.clock.by.Store(int64(2 * time.Hour))
	s.wantMetrics("connections 0")
}

// Metrics may be kept from strangers, and are where those who run the service look, with the service's health.
func TestMetricsApart(t *testing.T) {
	s := newSite(t, func(o *Options) { o.MetricsApart = true })
	s.want(http.StatusNotFound, 100, "GET", "/metrics", "")
	for path, want := range map[string]string{"/metrics": metricsName + "keys", "/health": `"health":"true"`, "/": "404"} {
		w := httptest.NewRecorder()
		s.service.Monitoring().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestMetricsLint(t *testing.T) {
	w := httptest.NewRecorder()
	s := build(Store{}, Options{Clock: clock.System})
	s.Monitoring().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	problems, err := promlint.New(w.Body).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
