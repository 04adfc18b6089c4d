package grpcproxy

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A member's metrics come through but for those that are the proxy's own to tell.
func TestFetchMetrics(t *testing.T) {
	m := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("# HELP etcd_grpc_proxy_cache_hits_total x\n# TYPE etcd_grpc_proxy_cache_hits_total gauge\netcd_grpc_proxy_cache_hits_total 0\n" +
			"# HELP etcd_x_total the etcd_grpc_proxy_ word\n# TYPE etcd_x_total counter\netcd_x_total 7\n"))
	}))
	defer m.Close()
	s := &Server{o: Options{HTTP: m.Client()}}
	for _, member := range []string{m.URL, strings.TrimPrefix(m.URL, "http://")} {
		var b bytes.Buffer
		if err := s.fetchMetrics(t.Context(), member, &b); err != nil {
			t.Fatal(err)
		}
		if want := "# HELP etcd_x_total the etcd_grpc_proxy_ word\n# TYPE etcd_x_total counter\netcd_x_total 7\n"; b.String() != want {
			t.Errorf("%q", b.String())
		}
	}
	var b bytes.Buffer
	if err := s.fetchMetrics(t.Context(), m.URL+"/elsewhere", &b); err == nil || !strings.Contains(err.Error(), "404") || b.Len() != 0 {
		t.Errorf("%v, %q", err, b.String())
	}
}
