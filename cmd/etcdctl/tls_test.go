package main

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
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// authority is a CA of a test, with the certificates it has signed in a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign writes NAME.crt and NAME.key.
func (a *authority) sign(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, parentKey := a.cert, a.key
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.path(name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed, key
}

func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

// server makes the configuration of a server, which asks for client certificates.
func (a *authority) server(minVersion uint16) *tls.Config {
	a.t.Helper()
	a.sign("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}})
	pair, err := tls.LoadX509KeyPair(a.path("server.crt"), a.path("server.key"))
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: minVersion, MaxVersion: minVersion}
}

// TestTLS connects with and without what the server asks for. Where it fails, the text is etcdctl's and the hint tells why.
func TestTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	secured := map[string]string{}
	for version, min := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		secured[version] = startFakeWith(t, false, grpc.Creds(credentials.NewTLS(a.server(min)))).addr
	}
	plain := startFake(t, false).addr
	a.sign("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	ca, client := " --cacert="+a.path("ca.crt"), " --cert="+a.path("client.crt")+" --key="+a.path("client.key")
	const trouble = "context deadline exceeded"
	for _, c := range []struct {
		name, scheme, flags string
		plain               bool
		diag, hint          string // "": it works
	}{
		{"all", "https://", ca + client, false, "", ""},
		{"no scheme", "", ca + client, false, "", ""},
		{"insecure transport with a CA", "", "--insecure-transport" + ca + client, false, "", ""},
		{"not verified", "https://", "--insecure-skip-tls-verify" + client, false, "", ""},
		{"not verified, no scheme", "", "--insecure-skip-tls-verify" + client, false, "", ""},
		{"no certificate of ours", "https://", ca, false, trouble, "client certificate"},
		{"no CA", "https://", client, false, trouble, "unknown authority"},
		{"no CA, no scheme", "", "--insecure-transport=false", false, trouble, "unknown authority"},
		{"another CA", "https://", "--cacert=" + other.path("ca.crt") + client, false, trouble, "unknown authority"},
		{"http", "http://", ca + client, false, trouble, "speaks TLS"},
		{"nothing", "", "", false, trouble, "speaks TLS"},
		{"https to a plain server", "https://", ca + client, true, trouble, "does not speak TLS"},
		{"http to a plain server with certificates", "http://", ca + client, true, "", ""},
	} {
		for version, addr := range secured {
			if c.plain {
				addr = plain
			}
			timeout := "30s"
			if c.diag != "" {
				timeout = "300ms"
			}
			args := append(strings.Fields("--command-timeout="+timeout+" --dial-timeout=30s --endpoints="+c.scheme+addr+" "+c.flags), "get", "none", "-w", "json")
			status, out, diag := runProgram(args, "", nil)
			switch {
			case c.diag == "" && (status != 0 || !strings.HasPrefix(out, "{") || diag != ""):
				t.Errorf("%s, TLS %s: exit %d, %q, %q", c.name, version, status, out, diag)
			case c.diag != "" && (status != statusError || !strings.HasPrefix(diag, "Error: "+c.diag+"\nHint: ") || !strings.Contains(diag, c.hint)):
				t.Errorf("%s, TLS %s: exit %d, %q, want a hint with %q", c.name, version, status, diag, c.hint)
			}
		}
	}
}

// The environment gives the files as well as the flags, and all verbs that make clients of their own take them.
func TestTLSOfAllVerbs(t *testing.T) {
	a := newAuthority(t)
	f := startFakeWith(t, false, grpc.Creds(credentials.NewTLS(a.server(tls.VersionTLS13))))
	f.scheme = "https://"
	a.sign("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	env := []string{
		"ETCDCTL_ENDPOINTS=https://" + f.addr, "ETCDCTL_CACERT=" + a.path("ca.crt"), "ETCDCTL_CERT=" + a.path("client.crt"),
		"ETCDCTL_KEY=" + a.path("client.key"), "ETCDCTL_USER=root:pw", "ETCDCTL_DIAL_TIMEOUT=30s",
	}
	for _, line := range []string{"endpoint health --cluster", "endpoint status --cluster", "endpoint hashkv", "move-leader 91bc3c398fb3c146", "defrag", "user list"} {
		if status, out, diag := runProgram(strings.Fields(line), "", env); status != 0 || out == "" && diag == "" {
			t.Errorf("%s: exit %d, %q, %q", line, status, out, diag)
		}
	}
}

// The destination of a mirror is another cluster, with an authority and users of its own. The fake ends a watch as compacted:
// so far a mirror comes that has reached both.
func TestMirrorBetweenAuthorities(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	from := startFakeWith(t, false, grpc.Creds(credentials.NewTLS(a.server(tls.VersionTLS13))))
	to := startFakeWith(t, false, grpc.Creds(credentials.NewTLS(b.server(tls.VersionTLS13))))
	for _, x := range []*authority{a, b} {
		x.sign("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	src := "--command-timeout=30s --dial-timeout=30s --endpoints=https://" + from.addr + " --user=root:pw --cacert=" + a.path("ca.crt") + " --cert=" + a.path("client.crt") + " --key=" + a.path("client.key")
	dst := " make-mirror --rev=5 https://" + to.addr + " --dest-cacert=" + b.path("ca.crt") + " --dest-cert=" + b.path("client.crt") + " --dest-key=" + b.path("client.key")
	for _, c := range []struct {
		name, line, stdin string
		status            int
		out, diag         string
	}{
		{"both", src + dst, "", statusError, "", "Error: etcdserver: mvcc: required revision has been compacted\n"},
		{"as a user", src + dst + " --dest-user=root:pw", "", statusError, "", "Error: etcdserver: mvcc: required revision has been compacted\n"},
		{"as a user who is asked", src + dst + " --dest-user=root", "pw\n", statusError, "Destination Password: \n", "Error: etcdserver: mvcc: required revision has been compacted\n"},
		{"as a wrong user", src + dst + " --dest-user=root --dest-password=no", "", statusBadConnection, "", "Error: etcdserver: authentication failed, invalid user ID or password\n"},
		{"the source's authority", strings.Replace(src, "=30s", "=3s", 1) + strings.ReplaceAll(dst, b.dir, a.dir), "", statusError, "", "Error: destination https://" + to.addr + ": context deadline exceeded\nHint: https://" + to.addr + ": tls: failed to verify certificate: x509: certificate signed by unknown authority"},
	} {
		status, out, diag := runProgram(strings.Fields(c.line), c.stdin, nil)
		if status != c.status || out != c.out || !strings.HasPrefix(diag, c.diag) {
			t.Errorf("%s: exit %d, %q, %q", c.name, status, out, diag)
		}
	}
}
