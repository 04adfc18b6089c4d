package dnssrv

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"keelson/test/authority"
)

// shaking serves handshakes with a certificate for some names, and is found at 127.0.0.1.
func shaking(t *testing.T, ca *authority.Authority, names ...string) Target {
	t.Helper()
	pair := ca.Local(t.TempDir(), "server", func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, nil
		for _, n := range names {
			if ip := net.ParseIP(n); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
			} else {
				c.DNSNames = append(c.DNSNames, n)
			}
		}
	})
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-served
	})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake() // whoever calls tells how it went
			_ = c.Close()
		}
	}()
	return Target{Host: "127.0.0.1", Port: netip.MustParseAddrPort(l.Addr().String()).Port(), TLS: true}
}

// Of an authority that was named, an endpoint's own name will do, as it does for an endpoint that was given: whoever forges DNS
// has no such certificate.
func TestTrusted(t *testing.T) {
	ca, other := authority.New(t, "ca"), authority.New(t, "other")
	domain, host, neither, alien := shaking(t, ca, "example.com"), shaking(t, ca, "127.0.0.1"), shaking(t, ca, "elsewhere.com"), shaking(t, other, "example.com", "127.0.0.1")
	plain := Target{Host: "127.0.0.1", Port: 1}
	all := []Target{plain, host, neither, alien, domain}
	named := &tls.Config{RootCAs: authority.Client(nil, ca).RootCAs, ServerName: "example.com"}
	if got, err := Trusted(t.Context(), all, named); err != nil || !slices.Equal(got, []Target{host, domain}) {
		t.Errorf("%v, %v", got, err)
	}
	_, err := Trusted(t.Context(), all[2:4], named)
	for _, want := range []string{neither.URL() + " is not trusted", "elsewhere.com, not example.com", alien.URL() + " is not trusted", "unknown authority"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
	if _, err := Trusted(t.Context(), []Target{plain}, &tls.Config{ServerName: "example.com"}); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Error(err)
	}
}
