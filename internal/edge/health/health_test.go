package health

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"keelson/internal/kit/wire"
)

// patient is a member as a test wants it.
type patient struct {
	alarms           []*pb.AlarmMember
	leaderless       bool
	learner          bool
	stale            error // of linearizable reads
	broken           error // of serializable reads
	cluster, storage string
}

func (p *patient) Alarms() []*pb.AlarmMember  { return p.alarms }
func (p *patient) HasLeader() bool            { return !p.leaderless }
func (p *patient) IsLearner() bool            { return p.learner }
func (p *patient) Versions() (string, string) { return p.cluster, p.storage }
func (p *patient) Range(ctx context.Context, r *pb.RangeRequest) (*wire.RangeResponse, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("a read without a bound")
	}
	if r.Serializable {
		return &wire.RangeResponse{}, p.broken
	}
	return &wire.RangeResponse{}, p.stale
}

func edge(m Member) *Edge {
	return New(m, Options{Timeout: time.Second, Registry: prometheus.NewRegistry(), Pprof: true, Logger: zap.NewNop()})
}

func ask(h http.Handler, method, path string) (code int, header http.Header, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	text, _ := io.ReadAll(w.Result().Body)
	return w.Code, w.Result().Header, string(text)
}

func alarm(a pb.AlarmType) []*pb.AlarmMember { return []*pb.AlarmMember{{MemberID: 1, Alarm: a}} }

// The bodies and codes are those of etcd 3.7.3.
func TestAnswers(t *testing.T) {
	well := &patient{cluster: "3.7.0", storage: "3.6.0"}
	full := &patient{alarms: alarm(pb.AlarmType_NOSPACE)}
	corrupt := &patient{alarms: alarm(pb.AlarmType_CORRUPT)}
	alone := &patient{leaderless: true, stale: errors.New("etcdserver: request timed out")}
	for _, x := range []struct {
		member *patient
		ask    string
		code   int
		body   string
	}{
		{well, "GET /health", 200, `{"health":"true","reason":""}`},
		{well, "GET /health?serializable=true", 200, `{"health":"true","reason":""}`},
		{well, "POST /health", 405, "Method Not Allowed\n"},
		{well, "HEAD /health", 405, "Method Not Allowed\n"},
		{full, "GET /health", 503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{full, "GET /health?exclude=NOSPACE", 200, `{"health":"true","reason":""}`},
		{full, "GET /health?exclude=CORRUPT", 503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{full, "GET /readyz", 200, "ok\n"},
		{corrupt, "GET /health", 503, `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"},
		{corrupt, "GET /livez", 200, "ok\n"},
		{corrupt, "GET /readyz", 503, "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\n"},
		{corrupt, "GET /readyz/data_corruption", 503, "[-]data_corruption failed: alarm activated: CORRUPT\n\n"},
		{corrupt, "GET /readyz?exclude=data_corruption", 200, "ok\n"},
		{alone, "GET /health", 503, `{"health":"false","reason":"RAFT NO LEADER"}` + "\n"},
		{alone, "GET /health?serializable=true", 200, `{"health":"true","reason":""}`},
		{alone, "GET /readyz/linearizable_read", 503, "[-]linearizable_read failed: etcdserver: request timed out\n\n"},
		{&patient{stale: errors.New("x")}, "GET /health", 503, `{"health":"false","reason":"RANGE ERROR:x"}` + "\n"},
		{&patient{broken: errors.New("x")}, "GET /livez", 503, "[-]serializable_read failed: x\n\n"},
		{&patient{learner: true}, "GET /readyz/non_learner", 503, "[-]non_learner failed: not supported for learner\n\n"},
		{well, "GET /livez?verbose", 200, "[+]serializable_read ok\nok\n"},
		{well, "GET /readyz?verbose", 200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"},
		{well, "GET /readyz?verbose&exclude=non_learner&exclude=nope", 200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n"},
		{well, "GET /readyz/linearizable_read", 200, "ok\n"},
		{well, "POST /readyz", 405, "Method Not Allowed\n"},
		{well, "GET /readyz/nope", 404, "404 page not found\n"},
		{well, "GET /livez/linearizable_read", 404, "404 page not found\n"},
		{well, "GET /version", 200, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.6.0"}`},
		{&patient{}, "GET /version", 200, `{"etcdserver":"3.7.3","etcdcluster":"not_decided","storage":"unknown"}`},
		{well, "GET /nothing", 404, "404 page not found\n"},
	} {
		method, path, _ := strings.Cut(x.ask, " ")
		code, _, body := ask(edge(x.member).Client(), method, path)
		if code != x.code || body != x.body {
			t.Errorf("%s: %d %q, not %d %q", x.ask, code, body, x.code, x.body)
		}
	}
}

func TestHeaders(t *testing.T) {
	h := edge(&patient{}).Client()
	for path, want := range map[string]string{
		"/health": "text/plain; charset=utf-8", "/livez": "text/plain; charset=utf-8", "/version": "application/json",
		"/debug/vars": "application/json; charset=utf-8", "/debug/pprof/": "text/html; charset=utf-8",
	} {
		if code, header, _ := ask(h, "GET", path); code != 200 || header.Get("Content-Type") != want {
			t.Errorf("%s: %d %q", path, code, header.Get("Content-Type"))
		}
	}
	if _, header, _ := ask(h, "GET", "/livez"); header.Get("X-Content-Type-Options") != "nosniff" {
		t.Error("livez may be sniffed")
	}
	if _, header, _ := ask(h, "PUT", "/version"); header.Get("Allow") != "GET" {
		t.Error("405 does not say what is allowed")
	}
}

func TestMetricsPortServesLess(t *testing.T) {
	h := edge(&patient{}).Metrics()
	for path, want := range map[string]int{"/health": 200, "/livez": 200, "/readyz/non_learner": 200, "/metrics": 200, "/version": 404, "/debug/vars": 404, "/debug/pprof/": 404} {
		if code, _, _ := ask(h, "GET", path); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	e := New(&patient{learner: true}, Options{Timeout: time.Second, Registry: r, Logger: zap.NewNop()})
	r.MustRegister(append(append(e.Collectors(), ProcessCollectors()...), Gates(map[string]bool{"X": true}, map[string]string{"X": "BETA"}))...)
	h := e.Client()
	ask(h, "GET", "/health")
	ask(h, "GET", "/readyz")
	if code, _, _ := ask(h, "GET", "/debug/pprof/"); code != 404 {
		t.Errorf("profiles without --enable-pprof: %d", code)
	}
	_, _, body := ask(h, "GET", "/metrics")
	for _, want := range []string{
		"etcd_server_health_success 1", "etcd_server_health_failures 0",
		`etcd_server_healthcheck{name="non_learner",type="readyz"} 0`,
		`etcd_server_healthchecks_total{name="linearizable_read",status="success",type="readyz"} 1`,
		`etcd_server_version{server_version="3.7.3"} 1`, `etcd_server_feature_enabled{name="X",stage="BETA"} 1`,
		"os_fd_used ", "os_fd_limit ", "go_goroutines ",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}
