package peer

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"keelson/internal/kit/clock"
)

// Calls to a member trust what is trusted at that moment; a connection that is open is used on.
func TestTLSOfTheMoment(t *testing.T) {
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]string{"etcdserver": "3.7.3", "etcdcluster": "3.7.0"})
	}))
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { connections.Add(1); return nil, nil }}
	s.StartTLS()
	defer s.Close()
	trusting := s.Client().Transport.(*http.Transport).TLSClientConfig
	var version atomic.Uint64
	c := NewCaller(Options{Clock: clock.System, TLS: func() (*tls.Config, uint64) {
		if v := version.Load(); v > 0 {
			return trusting, v
		}
		return nil, 0
	}})
	defer c.lines.close()
	ask := func() error {
		_, _, err := c.Version(t.Context(), []string{s.URL})
		return err
	}
	if ask() == nil {
		t.Error("a stranger was trusted")
	}
	for v := uint64(1); v <= 2; v++ {
		version.Store(v)
		before := connections.Load()
		for range 3 {
			if err := ask(); err != nil {
				t.Error(err)
			}
		}
		if n := connections.Load() - before; n != 1 {
			t.Errorf("three calls by configuration %d took %d connections", v, n)
		}
	}
}
