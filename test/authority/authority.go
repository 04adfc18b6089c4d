// Package authority makes certificates for tests and measurements: authorities, what they issue, and what they revoke. Files
// are replaced whole, as an operator's tools do. Nothing in it is secret: keys last for a day.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Failer is what ends where a certificate can't be made: a test, or a program.
type Failer interface {
	Helper()
	Fatal(why ...any)
}

// Authority issues certificates. It belongs to one test.
type Authority struct {
	Cert *x509.Certificate

	t   Failer
	key *ecdsa.PrivateKey
}

// Pair is a certificate and its key, in files and in memory.
type Pair struct {
	CertFile, KeyFile string
	Leaf              *x509.Certificate
	pair              tls.Certificate
}

// New makes an authority that nobody else vouches for.
func New(t Failer, name string) *Authority {
	t.Helper()
	a := &Authority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.key, a.Cert = sign(t, template, nil, nil)
	return a
}

// Under makes an authority that a vouches for.
func (a *Authority) Under(name string) *Authority {
	a.t.Helper()
	b := &Authority{t: a.t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	b.key, b.Cert = sign(a.t, template, a.Cert, a.key)
	return b
}

// Local makes a certificate for both ends of connections on this machine, into dir/name.crt and dir/name.key. change, if any,
// makes it another one.
func (a *Authority) Local(dir, name string, change ...func(*x509.Certificate)) Pair {
	a.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	key, leaf := sign(a.t, template, a.Cert, a.key)
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	p := Pair{CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key"), Leaf: leaf}
	cert, private := pem.EncodeToMemory(block(leaf)), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})
	if a.Cert.Issuer.CommonName != a.Cert.Subject.CommonName {
		cert = append(cert, pem.EncodeToMemory(block(a.Cert))...) // the way to the root
	}
	if p.pair, err = tls.X509KeyPair(cert, private); err != nil {
		a.t.Fatal(err)
	}
	Replace(a.t, p.CertFile, cert)
	Replace(a.t, p.KeyFile, private)
	return p
}

// Revoke writes a list, in DER form, of certificates of this authority that are no longer good.
func (a *Authority) Revoke(file string, pairs ...Pair) {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, p := range pairs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: p.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	Replace(a.t, file, der)
}

// Bundle writes the certificates of authorities into a file.
func Bundle(t Failer, file string, all ...*Authority) {
	t.Helper()
	var b []byte
	for _, a := range all {
		b = append(b, pem.EncodeToMemory(block(a.Cert))...)
	}
	Replace(t, file, b)
}

// Client gives a configuration that shows the pair, or nothing where it is nil, and trusts servers of the authorities.
func Client(p *Pair, roots ...*Authority) *tls.Config {
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	for _, a := range roots {
		c.RootCAs.AddCert(a.Cert)
	}
	if p != nil {
		// A certificate is shown also where the server names other authorities: that it is refused is for the server to say.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p.pair, nil }
	}
	return c
}

// Replace writes a file whole: whoever reads it sees the old one or the new one.
func Replace(t Failer, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func block(c *x509.Certificate) *pem.Block { return &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw} }

// sign fills in a template and signs it, by itself where there is no parent.
func sign(t Failer, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100)); err != nil {
		t.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, c
}
