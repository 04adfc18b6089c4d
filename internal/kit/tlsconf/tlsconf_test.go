package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/test/authority"
)

// shake connects a client to a server over the loopback and gives what the server thinks of it, and the server's certificate.
func shake(t *testing.T, server, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	verdict := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			verdict <- err
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		if err = s.HandshakeContext(t.Context()); err == nil {
			_, err = s.Write([]byte("in"))
		}
		verdict <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client = client.Clone()
	client.ServerName = "localhost"
	s := tls.Client(c, client)
	_, readErr := io.ReadFull(s, make([]byte, 2))
	if err := <-verdict; err != nil {
		return nil, err
	}
	if readErr != nil {
		return nil, readErr
	}
	return s.ConnectionState().PeerCertificates[0], nil
}

func open(t *testing.T, o Options) *Material {
	t.Helper()
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestWhoIsLetIn(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ours, theirs := authority.New(t, "ours"), authority.New(t, "theirs")
	below := ours.Under("below")
	server, client, revoked, stranger := ours.Local(dir, "server"), ours.Local(dir, "client"), ours.Local(dir, "revoked"), theirs.Local(dir, "stranger")
	deep := below.Local(dir, "deep")
	old := ours.Local(dir, "old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	noClient := ours.Local(dir, "noClient", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	authority.Bundle(t, at("ca"), ours)
	ours.Revoke(at("crl"), revoked)
	ours.Revoke(at("crl-below"), authority.Pair{Leaf: below.Cert})

	base := Options{CertFile: server.CertFile, KeyFile: server.KeyFile}
	with := func(change func(*Options)) Options {
		o := base
		change(&o)
		return o
	}
	asking := with(func(o *Options) { o.CAFile, o.ClientCertAuth = at("ca"), true })
	for _, c := range []struct {
		name   string
		o      Options
		client *authority.Pair
		want   string // part of the refusal; empty: let in
	}{
		{"nobody is asked", base, nil, ""},
		{"a stranger where nobody is asked", base, &stranger, ""},
		{"with a certificate", asking, &client, ""},
		{"an authority alone asks too", with(func(o *Options) { o.CAFile = at("ca") }), nil, "didn't provide a certificate"},
		{"without a certificate", asking, nil, "didn't provide a certificate"},
		{"another authority's", asking, &stranger, "unknown authority"},
		{"expired", asking, &old, "expired"},
		{"not for clients", asking, &noClient, "incompatible key usage"},
		{"by an intermediate authority", asking, &deep, ""},
		{"the system's authorities", with(func(o *Options) { o.ClientCertAuth = true }), &client, "unknown authority"},
		{"revoked", with(func(o *Options) { o.CAFile, o.CRLFile = at("ca"), at("crl") }), &revoked, "revoked"},
		{"not revoked", with(func(o *Options) { o.CAFile, o.CRLFile = at("ca"), at("crl") }), &client, ""},
		{"the intermediate is revoked", with(func(o *Options) { o.CAFile, o.CRLFile = at("ca"), at("crl-below") }), &deep, "revoked"},
		{"an allowed name", with(func(o *Options) { o.CAFile, o.AllowedCNs = at("ca"), []string{"a", "client"} }), &client, ""},
		{"no allowed name", with(func(o *Options) { o.CAFile, o.AllowedCNs = at("ca"), []string{"a", "b"} }), &client, ErrNotAllowed.Error()},
		{"an allowed host", with(func(o *Options) { o.CAFile, o.AllowedHostnames = at("ca"), []string{"localhost"} }), &client, ""},
		{"an allowed address", with(func(o *Options) { o.CAFile, o.AllowedHostnames = at("ca"), []string{"127.0.0.1"} }), &client, ""},
		{"no allowed host", with(func(o *Options) { o.CAFile, o.AllowedHostnames = at("ca"), []string{"example.com"} }), &client, ErrNotAllowed.Error()},
	} {
		_, err := shake(t, open(t, c.o).Server(false, "h2"), authority.Client(c.client, ours))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, not %q", c.name, err, c.want)
		}
	}
}

// A member is let in from an address of its certificate alone, where the port asks for that.
func TestAddressIsChecked(t *testing.T) {
	dir := t.TempDir()
	ca := authority.New(t, "ca")
	authority.Bundle(t, filepath.Join(dir, "ca"), ca)
	server := ca.Local(dir, "server")
	elsewhere := ca.Local(dir, "elsewhere", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(192, 0, 2, 1)} })
	m := open(t, Options{CertFile: server.CertFile, KeyFile: server.KeyFile, CAFile: filepath.Join(dir, "ca")})
	for _, check := range []bool{false, true} {
		if _, err := shake(t, m.Server(check), authority.Client(&server, ca)); err != nil {
			t.Errorf("from its address, checked %t: %v", check, err)
		}
		if _, err := shake(t, m.Server(check), authority.Client(&elsewhere, ca)); (err != nil) != check {
			t.Errorf("from another address, checked %t: %v", check, err)
		}
	}
}

// A port without TLS 1.2 and one without TLS 1.3 agree on nothing.
func TestVersions(t *testing.T) {
	dir := t.TempDir()
	ca := authority.New(t, "ca")
	server := ca.Local(dir, "server")
	o := Options{CertFile: server.CertFile, KeyFile: server.KeyFile, Limits: Limits{MaxVersion: tls.VersionTLS12}}
	client := authority.Client(nil, ca)
	client.MinVersion = tls.VersionTLS13
	if _, err := shake(t, open(t, o).Server(false), client); err == nil {
		t.Error("TLS 1.3 goes through a limit of 1.2")
	}
	client.MinVersion, client.CipherSuites, client.MaxVersion = 0, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}, tls.VersionTLS12
	o.Limits.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	if _, err := shake(t, open(t, o).Server(false), client); err == nil {
		t.Error("another cipher suite was agreed on")
	}
}

// Files that change count for the next connection; what cannot be used is told once and changes nothing.
func TestFilesChange(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	a, b := authority.New(t, "a"), authority.New(t, "b")
	server, old, young := a.Local(dir, "server"), a.Local(dir, "old"), b.Local(dir, "young")
	authority.Bundle(t, at("ca"), a)
	a.Revoke(at("crl"))
	core, logs := observer.New(zapcore.InfoLevel)
	m := open(t, Options{CertFile: server.CertFile, KeyFile: server.KeyFile, CAFile: at("ca"), CRLFile: at("crl"), Logger: zap.New(core)})
	config := m.Server(false)
	in := func(p *authority.Pair) error {
		_, err := shake(t, config, authority.Client(p, a, b))
		return err
	}
	check := func(when string, p *authority.Pair, want bool) {
		t.Helper()
		if err := in(p); (err == nil) != want {
			t.Errorf("%s: %s: %v", when, p.CertFile, err)
		}
	}
	check("at first", &old, true)
	check("at first", &young, false)
	authority.Bundle(t, at("ca"), a, b)
	check("both authorities", &old, true)
	check("both authorities", &young, true)
	a.Revoke(at("crl"), old)
	check("revoked", &old, false)
	check("revoked", &young, true)
	a.Revoke(at("crl"))
	check("no longer revoked", &old, true)
	authority.Bundle(t, at("ca"), b)
	check("one authority", &old, false)
	check("one authority", &young, true)

	told := func() int { return logs.FilterLevelExact(zapcore.WarnLevel).Len() }
	for i, damage := range []func(){
		func() { authority.Replace(t, at("ca"), []byte("nothing")) },
		func() { authority.Replace(t, server.KeyFile, []byte("half a key")) },
		func() { authority.Replace(t, at("crl"), []byte("-----BEGIN X509 CRL-----\n")) },
		func() { os.Remove(at("ca")) },
	} {
		damage()
		check("damaged", &young, true)
		check("damaged", &old, false)
		if n := told(); n != i+1 {
			t.Errorf("%d times damaged, told %d times", i+1, n)
		}
	}
	renewed := b.Local(dir, "server")
	got, err := shake(t, config, authority.Client(&young, a, b))
	if err != nil || !got.Equal(renewed.Leaf) {
		t.Errorf("the renewed certificate is not served: %v", err)
	}
}

// A ticket from before a certificate was revoked opens nothing.
func TestNoResumption(t *testing.T) {
	dir := t.TempDir()
	ca := authority.New(t, "ca")
	server, client := ca.Local(dir, "server"), ca.Local(dir, "client")
	authority.Bundle(t, filepath.Join(dir, "ca"), ca)
	ca.Revoke(filepath.Join(dir, "crl"))
	config := open(t, Options{CertFile: server.CertFile, KeyFile: server.KeyFile, CAFile: filepath.Join(dir, "ca"), CRLFile: filepath.Join(dir, "crl")}).Server(false)
	c := authority.Client(&client, ca)
	c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if _, err := shake(t, config, c); err != nil {
		t.Fatal(err)
	}
	ca.Revoke(filepath.Join(dir, "crl"), client)
	if _, err := shake(t, config, c); err == nil {
		t.Error("a revoked certificate was let in")
	}
}

// Calls to others trust the authorities of the moment, and refuse what is revoked or has no allowed name.
func TestCalls(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	a, b := authority.New(t, "a"), authority.New(t, "b")
	server, client := b.Local(dir, "server"), a.Local(dir, "client")
	authority.Bundle(t, at("ca"), a)
	a.Revoke(at("crl"))
	far := open(t, Options{CertFile: server.CertFile, KeyFile: server.KeyFile, CAFile: at("ca")}).Server(false)
	m := open(t, Options{CertFile: client.CertFile, KeyFile: client.KeyFile, CAFile: at("ca"), CRLFile: at("crl"), AllowedCNs: []string{"server"}})
	call := func() error {
		c, _ := m.Client()
		_, err := shake(t, far, c)
		return err
	}
	_, before := m.Client()
	if call() == nil {
		t.Error("a server of an unknown authority was trusted")
	}
	authority.Bundle(t, at("ca"), a, b)
	if err := call(); err != nil {
		t.Error(err)
	}
	if _, after := m.Client(); after == before {
		t.Error("nobody could tell that the authorities changed")
	}
	b.Revoke(at("crl"), server)
	if call() == nil {
		t.Error("a revoked server was trusted")
	}
	blind, _ := open(t, Options{CertFile: client.CertFile, KeyFile: client.KeyFile, SelfSigned: true}).Client()
	if _, err := shake(t, far, blind); err != nil {
		t.Errorf("without authorities: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	ca := authority.New(t, "ca")
	p := ca.Local(dir, "p")
	q := ca.Local(dir, "q")
	authority.Replace(t, filepath.Join(dir, "empty"), nil)
	for _, o := range []Options{
		{CertFile: p.CertFile},
		{KeyFile: p.KeyFile},
		{ClientKeyFile: p.KeyFile},
		{CertFile: p.CertFile, KeyFile: q.KeyFile},
		{CertFile: filepath.Join(dir, "absent"), KeyFile: p.KeyFile},
		{CAFile: filepath.Join(dir, "empty")},
		{CAFile: p.KeyFile},
		{CRLFile: p.CertFile},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v was opened", o)
		} else if !errors.Is(err, ErrHalfPair) && !strings.Contains(err.Error(), dir) {
			t.Errorf("%+v: %v names no file", o, err)
		}
	}
}

func TestExpiries(t *testing.T) {
	dir := t.TempDir()
	a, b := authority.New(t, "a"), authority.New(t, "b")
	p := a.Local(dir, "p")
	authority.Bundle(t, filepath.Join(dir, "ca"), a, b, a)
	a.Revoke(filepath.Join(dir, "crl"))
	m := open(t, Options{CertFile: p.CertFile, KeyFile: p.KeyFile, CAFile: filepath.Join(dir, "ca"), CRLFile: filepath.Join(dir, "crl")})
	uses := map[string]int{}
	for _, e := range m.Expiries() {
		uses[e.Use]++
		if e.Use == "server" && !e.NotAfter.Equal(p.Leaf.NotAfter) {
			t.Errorf("%+v", e)
		}
	}
	if uses["server"] != 1 || uses["ca"] != 2 || uses["crl"] != 1 {
		t.Errorf("%v", uses)
	}
}

func TestSelfSign(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fixtures", "peer")
	now := time.Now()
	addresses := []string{"127.0.0.1:1", "[::1]:1", "localhost:1", ""}
	cert, key, made, err := SelfSign(dir, addresses, 1, now)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	m := open(t, Options{CertFile: cert, KeyFile: key, SelfSigned: true})
	c, _ := m.Client()
	first, err := shake(t, m.Server(true), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.IPAddresses) != 2 || len(first.DNSNames) != 1 || first.DNSNames[0] != "localhost" {
		t.Errorf("%v %v", first.IPAddresses, first.DNSNames)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v %v", info.Mode(), err)
	}
	for _, after := range []time.Duration{0, 364 * 24 * time.Hour} {
		if _, _, made, err := SelfSign(dir, addresses, 1, now.Add(after)); err != nil || made {
			t.Errorf("%v later: made anew %t, %v", after, made, err)
		}
	}
	if _, _, made, err := SelfSign(dir, addresses, 1, now.Add(366*24*time.Hour)); err != nil || !made {
		t.Errorf("after its end: made anew %t, %v", made, err)
	}
	if _, _, _, err := SelfSign(dir, nil, 0, now); !errors.Is(err, ErrNoValidity) {
		t.Errorf("no years: %v", err)
	}
	authority.Replace(t, key, []byte("damaged"))
	if _, _, _, err := SelfSign(dir, addresses, 1, now); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]uint16{
		"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305":  tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		"TLS_ECDHE_RSA_WITH_RC4_128_SHA":        tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA,
		"NOPE":                                  0,
	} {
		if got, err := CipherSuite(name); got != want || (err != nil) != (want == 0) {
			t.Errorf("%s: %d %v", name, got, err)
		}
	}
	for name, want := range map[string]uint16{"": 0, "TLS1.2": tls.VersionTLS12, "TLS1.3": tls.VersionTLS13} {
		if got, err := Version(name); got != want || err != nil {
			t.Errorf("%s: %d %v", name, got, err)
		}
	}
	if _, err := Version("TLS1.1"); err == nil {
		t.Error("TLS 1.1 is known")
	}
}
