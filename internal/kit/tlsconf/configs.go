package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
)

// Server gives the configuration of a port, which stays good for its life. A port that is no public one checks by checkSAN
// that whoever connects does so from an address of its certificate. protocols are those of ALPN.
func (m *Material) Server(checkSAN bool, protocols ...string) *tls.Config {
	c := m.limited()
	c.NextProtos = protocols
	c.SessionTicketsDisabled = true
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return m.serve(hello, checkSAN, protocols), nil
	}
	return c
}

// serve makes the configuration of one connection.
func (m *Material) serve(hello *tls.ClientHelloInfo, checkSAN bool, protocols []string) *tls.Config {
	now := m.now()
	c := m.limited()
	c.NextProtos = protocols
	c.SessionTicketsDisabled = true
	if now.own != nil {
		c.Certificates = []tls.Certificate{*now.own}
	}
	if !m.asks() {
		return c
	}
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, now.roots
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if err := m.judge(now, s); err != nil || !checkSAN {
			return err
		}
		return m.o.checkSAN(hello.Context(), s.PeerCertificates[0], hello.Conn.RemoteAddr())
	}
	return c
}

// asks tells whether those who connect must show a certificate; an authority to check them against is asking too.
func (m *Material) asks() bool { return m.o.ClientCertAuth || m.o.CAFile != "" }

// Client gives the configuration for calls to others as it is now, and a number that is another one once it has changed.
func (m *Material) Client() (*tls.Config, uint64) {
	now := m.now()
	c := m.limited()
	c.RootCAs, c.InsecureSkipVerify = now.roots, m.o.SelfSigned
	c.VerifyConnection = func(s tls.ConnectionState) error { return m.judge(now, s) }
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if pair := m.now().calling; pair != nil {
			return pair, nil
		}
		return &tls.Certificate{}, nil // none, which the other side may bear
	}
	return c, now.version
}

func (m *Material) limited() *tls.Config {
	l := m.o.Limits
	// Records of full size from the start: on the way to an answer of a megabyte that saves hundreds of writes.
	return &tls.Config{DynamicRecordSizingDisabled: true, MinVersion: max(l.MinVersion, tls.VersionTLS12), MaxVersion: l.MaxVersion, CipherSuites: l.CipherSuites}
}

// judge refuses a connection whose certificate has none of the allowed names, or on which one, shown or on the way to an
// authority, is revoked.
func (m *Material) judge(now current, s tls.ConnectionState) error {
	if !m.allowed(s) {
		return ErrNotAllowed
	}
	for _, chain := range append([][]*x509.Certificate{s.PeerCertificates}, s.VerifiedChains...) {
		for _, c := range chain {
			if now.revoked[serial(c.SerialNumber)] {
				return fmt.Errorf("transport: certificate serial %x revoked", c.SerialNumber.Bytes())
			}
		}
	}
	return nil
}

func (m *Material) allowed(s tls.ConnectionState) bool {
	if len(m.o.AllowedCNs) == 0 && len(m.o.AllowedHostnames) == 0 {
		return true
	}
	if len(s.VerifiedChains) == 0 {
		return false
	}
	leaf := s.PeerCertificates[0]
	return slices.Contains(m.o.AllowedCNs, leaf.Subject.CommonName) ||
		slices.ContainsFunc(m.o.AllowedHostnames, func(name string) bool { return leaf.VerifyHostname(name) == nil })
}
