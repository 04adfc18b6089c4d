// Package tlsconf makes TLS configurations from the names of files: for a port's server and for calls to others. cmd/etcd
// opens one Material for the client ports and one for members, and asks it for configurations.
//
// Files are looked at before each handshake and read again when they have changed: certificates and keys, authorities,
// revocation lists. A handshake sees each of the four as a whole, old or new. What can't be read, or doesn't fit together, is
// told in the log once, and what was read before stays in force: a file that is being written hurts nobody.
//
// Everything about a connection is decided within its handshake (GetConfigForClient, VerifyConnection), so that it holds for
// whatever server runs on the port: the authorities of this moment, revocation, allowed names, and a member's address.
// Sessions are not resumed: a ticket from yesterday would pass by today's authorities.
package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Options name the files of one port and the rules for its connections. No field is required.
type Options struct {
	// CertFile and KeyFile are shown to those who connect; ClientCertFile and ClientKeyFile to those who are called, or
	// the former where these are empty.
	CertFile, KeyFile, ClientCertFile, ClientKeyFile string
	// CAFile holds the authorities that others are checked against; empty: the system's.
	CAFile string
	// ClientCertAuth asks everybody who connects for a certificate. A CAFile does so too.
	ClientCertAuth bool
	// CRLFile lists the certificates that are no longer good, in both directions.
	CRLFile string
	// AllowedCNs or AllowedHostnames, if not empty, hold a name that the certificates of others must carry.
	AllowedCNs, AllowedHostnames []string
	// SelfSigned says that others' certificates are like this one's: nobody vouches for them, and those called are not checked.
	SelfSigned bool
	Limits     Limits
	// Resolver is asked for the names in members' certificates; nil: the system's.
	Resolver Resolver
	// Logger is told of files read again, and of those that can't be.
	Logger *zap.Logger
}

// Limits bound what the two ends may agree on; the zero value leaves it to Go, from TLS 1.2 on.
type Limits struct {
	CipherSuites           []uint16
	MinVersion, MaxVersion uint16
}

var (
	// ErrNotAllowed is returned for a certificate without any of the allowed names. The text is etcd's.
	ErrNotAllowed = errors.New("client certificate authentication failed")
	// ErrNoCertificate is returned when a file that should hold certificates holds none.
	ErrNoCertificate = errors.New("no certificate in PEM form is in it")
	// ErrHalfPair is returned for a certificate without its key, or a key without its certificate.
	ErrHalfPair = errors.New("a certificate and its key must both be given, or none of the two")
)

// Material is what was read from the files of one port. Its methods may be called from any goroutine.
type Material struct {
	o Options

	mu      sync.Mutex // guards the rest
	own     part[*tls.Certificate]
	calling part[*tls.Certificate]
	roots   part[authorities]
	revoked part[revocations]
	version uint64 // counts changes
}

// current is what holds at one moment.
type current struct {
	own, calling *tls.Certificate // nil: none
	roots        *x509.CertPool   // nil: the system's
	revoked      map[string]bool
	version      uint64
}

// Open reads all files. The error names the one at fault.
func Open(o Options) (*Material, error) {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Resolver == nil {
		o.Resolver = systemResolver()
	}
	for _, pair := range [][2]string{{o.CertFile, o.KeyFile}, {o.ClientCertFile, o.ClientKeyFile}} {
		if (pair[0] == "") != (pair[1] == "") {
			return nil, fmt.Errorf("tlsconf: %w: certificate %q, key %q", ErrHalfPair, pair[0], pair[1])
		}
	}
	m := &Material{
		o: o, own: newPart(parsePair, o.CertFile, o.KeyFile), calling: newPart(parsePair, o.ClientCertFile, o.ClientKeyFile),
		roots: newPart(parseAuthorities, o.CAFile), revoked: newPart(parseRevocations, o.CRLFile),
	}
	for _, look := range m.parts() {
		if _, err := look(); err != nil {
			return nil, fmt.Errorf("tlsconf: %w", err)
		}
	}
	return m, nil
}

func (m *Material) parts() []func() (bool, error) {
	return []func() (bool, error){m.own.look, m.calling.look, m.roots.look, m.revoked.look}
}

// now looks at the files and answers what holds.
func (m *Material) now() current {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look()
	c := current{own: m.own.value, calling: m.calling.value, roots: m.roots.value.pool, revoked: m.revoked.value.serials, version: m.version}
	if c.calling == nil {
		c.calling = c.own
	}
	return c
}

// look reads again what has changed. The caller holds mu.
func (m *Material) look() {
	changed := false
	for _, look := range m.parts() {
		read, err := look()
		changed = changed || read
		if err != nil {
			m.o.Logger.Warn("failed to read TLS files again; those read before stay in force", zap.Error(err))
		}
	}
	if changed {
		m.version++
		m.o.Logger.Info("read TLS files again", zap.Strings("files", m.o.files()))
	}
}

func (o Options) files() []string {
	return slices.DeleteFunc([]string{o.CertFile, o.KeyFile, o.ClientCertFile, o.ClientKeyFile, o.CAFile, o.CRLFile}, func(s string) bool { return s == "" })
}

// Expiry is the end of one certificate that is in use, or the time by which a revocation list should have a successor.
type Expiry struct {
	// Use is server, client, ca or crl.
	Use, File, Subject, Serial string
	// CommonName is the one in Subject; empty for a list.
	CommonName string
	NotAfter   time.Time
}

// Expiries lists all certificates and lists in use, each once.
func (m *Material) Expiries() []Expiry {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look()
	var all []Expiry
	add := func(use, file string, certs ...*x509.Certificate) {
		for _, c := range certs {
			all = append(all, Expiry{use, file, c.Subject.String(), c.SerialNumber.Text(16), c.Subject.CommonName, c.NotAfter})
		}
	}
	if c := m.own.value; c != nil {
		add("server", m.o.CertFile, c.Leaf)
	}
	if c := m.calling.value; c != nil {
		add("client", m.o.ClientCertFile, c.Leaf)
	}
	add("ca", m.o.CAFile, m.roots.value.certs...)
	for _, l := range m.revoked.value.lists {
		if !l.NextUpdate.IsZero() {
			all = append(all, Expiry{Use: "crl", File: m.o.CRLFile, Subject: l.Issuer.String(), Serial: text16(l.Number), NotAfter: l.NextUpdate})
		}
	}
	seen := map[Expiry]bool{}
	return slices.DeleteFunc(all, func(e Expiry) bool {
		known := seen[Expiry{Use: e.Use, Subject: e.Subject, Serial: e.Serial}]
		seen[Expiry{Use: e.Use, Subject: e.Subject, Serial: e.Serial}] = true
		return known
	})
}
