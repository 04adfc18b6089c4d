package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ErrNoValidity is returned for a certificate that would be good for no time at all.
var ErrNoValidity = errors.New("tlsconf: a certificate must be good for one year at least")

// SelfSign gives the files of a certificate that nobody vouches for, cert.pem and key.pem in dir, for the hosts of the given
// addresses (host:port). It makes them where they are missing, or no longer good at this time; made tells so.
func SelfSign(dir string, addresses []string, years uint, now time.Time) (certFile, keyFile string, made bool, err error) {
	if years == 0 {
		return "", "", false, ErrNoValidity
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case err == nil && now.Before(pair.Leaf.NotAfter):
		return certFile, keyFile, false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", "", false, fmt.Errorf("tlsconf: read the certificate made at an earlier start: %w; remove %s for a new one", err, dir)
	}
	cert, key, err := newSelfSigned(addresses, years, now)
	if err != nil {
		return "", "", false, fmt.Errorf("tlsconf: make a certificate: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", false, fmt.Errorf("tlsconf: keep a certificate: %w", err)
	}
	// The certificate goes first and comes last: a start that ends in between finds none and makes both anew.
	for _, old := range []string{certFile, keyFile} { // an old file would keep its permissions, and maybe a reader
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", "", false, fmt.Errorf("tlsconf: replace a certificate: %w", err)
		}
	}
	for _, f := range []struct {
		path string
		data []byte
		perm fs.FileMode
	}{{keyFile, key, 0o600}, {certFile, cert, 0o644}} {
		if err := os.WriteFile(f.path, f.data, f.perm); err != nil {
			return "", "", false, fmt.Errorf("tlsconf: keep a certificate: %w", err)
		}
	}
	return certFile, keyFile, true, nil
}

// newSelfSigned makes a certificate and its key, in PEM form. It serves both ways: it is shown to those who are called too.
func newSelfSigned(addresses []string, years uint, now time.Time) (cert, key []byte, err error) {
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, nil, err
	}
	// A clock that is behind this one by an hour still finds it good.
	t := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{Organization: []string{"etcd"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 365*int(years)),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	for _, a := range addresses {
		host, _, err := net.SplitHostPort(a)
		switch ip := net.ParseIP(host); {
		case err != nil || host == "": // a unix socket
		case ip != nil:
			t.IPAddresses = append(t.IPAddresses, ip)
		default:
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &priv.PublicKey, priv)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalECPrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), nil
}
