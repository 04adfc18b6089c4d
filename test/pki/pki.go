// Package pki makes authorities, certificates and revocation lists for tests and measurements, in memory and as PEM files.
// Nothing in it is secret: keys are small, and last for a day.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// early is how much before now a certificate begins to hold: clocks of one machine agree.
	early = time.Hour
	// lifetime is how long it holds after now.
	lifetime = 24 * time.Hour
)

// Authority signs certificates.
type Authority struct {
	// PEM is the authority's own certificate, as --trusted-ca-file wants it.
	PEM  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf is a certificate of a server, a member or a client, with its key.
type Leaf struct {
	CertPEM, KeyPEM []byte
	Serial          *big.Int
}

// Subject is what a certificate says.
type Subject struct {
	// CommonName may be a user's.
	CommonName string
	// Hosts are addresses and DNS names.
	Hosts []string
	// NotAfter is the end of its time; zero: a day from now.
	NotAfter time.Time
}

// NewAuthority makes an authority that signs itself.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pki: make a key: %w", err)
	}
	template, err := template(Subject{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign an authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: read an authority: %w", err)
	}
	return &Authority{PEM: encode("CERTIFICATE", der), cert: cert, key: key}, nil
}

func template(s Subject) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("pki: draw a serial number: %w", err)
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: s.CommonName}, NotBefore: now.Add(-early), NotAfter: s.NotAfter,
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = now.Add(lifetime)
	}
	for _, h := range s.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	return c, nil
}

// Issue signs a certificate that serves both ends of a connection.
func (a *Authority) Issue(s Subject) (*Leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pki: make a key: %w", err)
	}
	template, err := template(s)
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign a certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pki: encode a key: %w", err)
	}
	return &Leaf{CertPEM: encode("CERTIFICATE", der), KeyPEM: encode("PRIVATE KEY", private), Serial: template.SerialNumber}, nil
}

// Revoke makes a list of revoked certificates in DER form: etcd takes no other as --client-crl-file.
func (a *Authority) Revoke(leaves ...*Leaf) ([]byte, error) {
	now := time.Now()
	list := &x509.RevocationList{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-early), NextUpdate: now.Add(lifetime)}
	for _, l := range leaves {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: l.Serial, RevocationTime: now.Add(-early)})
	}
	signer := *a.cert
	der, err := x509.CreateRevocationList(rand.Reader, list, &signer, a.key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign a revocation list: %w", err)
	}
	return der, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Config is a client's side of TLS that trusts the authority, with a certificate of its own unless leaf is nil.
func (a *Authority) Config(leaf *Leaf) (*tls.Config, error) {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if leaf == nil {
		return c, nil
	}
	pair, err := tls.X509KeyPair(leaf.CertPEM, leaf.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("pki: pair a certificate with its key: %w", err)
	}
	// Always offered, whoever the server says it trusts: a refusal is for the server to say.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return c, nil
}

// Files are the paths of a certificate and its key.
type Files struct{ Cert, Key string }

// Save writes the two beside each other.
func (l *Leaf) Save(dir, name string) (Files, error) {
	f := Files{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
	if err := os.WriteFile(f.Cert, l.CertPEM, 0o600); err != nil {
		return f, fmt.Errorf("pki: write a certificate: %w", err)
	}
	if err := os.WriteFile(f.Key, l.KeyPEM, 0o600); err != nil {
		return f, fmt.Errorf("pki: write a key: %w", err)
	}
	return f, nil
}
