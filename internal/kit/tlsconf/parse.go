package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

const (
	pemCertificate = "CERTIFICATE"
	pemCRL         = "X509 CRL"
)

// authorities are the certificates of a bundle.
type authorities struct {
	pool  *x509.CertPool
	certs []*x509.Certificate
}

// revocations are the lists of a file, and the serial numbers on all of them as bytes.
type revocations struct {
	lists   []*x509.RevocationList
	serials map[string]bool
}

// parsePair takes a certificate, with what leads to its authority behind it, and its key.
func parsePair(contents [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// parseAuthorities takes certificates in PEM form, one after another.
func parseAuthorities(contents [][]byte) (authorities, error) {
	a := authorities{pool: x509.NewCertPool()}
	err := eachBlock(contents[0], func(b *pem.Block) error {
		if b.Type != pemCertificate {
			return fmt.Errorf("a block %q is in it, which is no certificate", b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return err
		}
		a.pool.AddCert(c)
		a.certs = append(a.certs, c)
		return nil
	})
	if err == nil && len(a.certs) == 0 {
		err = ErrNoCertificate
	}
	return a, err
}

// parseRevocations takes one revocation list in DER form, as etcd does, or several in PEM form.
func parseRevocations(contents [][]byte) (revocations, error) {
	r := revocations{serials: map[string]bool{}}
	add := func(der []byte) error {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		r.lists = append(r.lists, l)
		for _, e := range l.RevokedCertificateEntries {
			r.serials[serial(e.SerialNumber)] = true
		}
		return nil
	}
	if !bytes.Contains(contents[0], []byte("-----BEGIN ")) {
		return r, add(contents[0])
	}
	err := eachBlock(contents[0], func(b *pem.Block) error {
		if b.Type != pemCRL {
			return fmt.Errorf("a block %q is in it, which is no revocation list", b.Type)
		}
		return add(b.Bytes)
	})
	if err == nil && len(r.lists) == 0 {
		err = errors.New("no revocation list is in it")
	}
	return r, err
}

func eachBlock(text []byte, take func(*pem.Block) error) error {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return nil
		}
		if err := take(b); err != nil {
			return err
		}
	}
}

func serial(n *big.Int) string { return string(n.Bytes()) }

func text16(n *big.Int) string {
	if n == nil {
		return ""
	}
	return n.Text(16)
}
