package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"keelson/test/authority"
)

func TestProxyEndpoint(t *testing.T) {
	for _, c := range []struct {
		text   string
		secure bool
		want   string
	}{
		{"infra0", false, "http://infra0:2379"}, {"infra0", true, "https://infra0:2379"}, {"infra0:12379", false, "http://infra0:12379"}, {" http://infra0/ ", true, "http://infra0:2379"},
		{"https://infra0", false, "https://infra0:2379"}, {"[::1]", false, "http://[::1]:2379"}, {"unix:///run/etcd.sock", false, "unix:///run/etcd.sock"},
	} {
		if got, err := proxyEndpoint(c.text, c.secure); err != nil || got != c.want {
			t.Errorf("%q: %q, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"ftp://infra0", "", "https://", "http://infra0/x", "a:b:c"} {
		if got, err := proxyEndpoint(text, false); err == nil || !strings.Contains(err.Error(), "--endpoints") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// What is wrong with a command line is told with the flag's name, before anything listens.
func TestProxyRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--resolver-prefix=p", "invalid resolver-ttl 0"},
		{"--resolver-ttl=5", `invalid resolver-prefix ""`},
		{"--resolver-prefix=p --resolver-ttl=5 --advertise-client-url=", `invalid advertise-client-url ""`},
		{"--auto-tls --self-signed-cert-validity=0", "--self-signed-cert-validity=0"},
		{"--cert=x", "give both, or none"},
		{"--cert-file=x", "give both, or none"},
		{"--trusted-ca-file=x", "needs --cert-file and --key-file"},
		{"--max-send-bytes=0", "--max-send-bytes=0"},
		{"--metrics-addr=127.0.0.1:1", "--metrics-addr=127.0.0.1:1"},
		{"--metrics-addr=https://127.0.0.1:1", "https needs --cert-file"},
		{"--tls-min-version=TLS1.1", "--tls-min-version"},
		{"--tls-min-version=TLS1.3 --tls-max-version=TLS1.2", "is below"},
		{"--listen-cipher-suites=none", "--listen-cipher-suites"},
		{"--tls-min-version=TLS1.3 --listen-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS 1.3 leaves no choice"},
		{"--endpoints=ftp://a --listen-addr=127.0.0.1:0", `"ftp://a"`},
		{"--listen-addr=nowhere", "--listen-addr=nowhere"},
		{"--cacert=absent --listen-addr=127.0.0.1:0", "absent"},
		{"--cert-file=absent --key-file=absent --listen-addr=127.0.0.1:0", "absent"},
		{"x", "unknown command"},
	} {
		status, out, errs := invoke(t, nil, append([]string{"grpc-proxy", "start"}, strings.Fields(c.args)...)...)
		if status != exitFailed || out != "" || !strings.Contains(errs, c.want) || !strings.Contains(errs, "--help") {
			t.Errorf("%s: %d %q %q", c.args, status, out, errs)
		}
	}
}

// A certificate with a common name would make its user of every client.
func TestProxyCommonName(t *testing.T) {
	ca, dir := authority.New(t, "ca"), t.TempDir()
	named := ca.Local(dir, "alice", func(c *x509.Certificate) { c.Subject.CommonName = "alice" })
	nameless := ca.Local(dir, "proxy", func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"proxy"}} })
	for pair, want := range map[*authority.Pair]string{&named: `its common name is "alice"`, &nameless: ""} {
		f := proxyFlags{proxyMembers: proxyMembers{cert: pair.CertFile, key: pair.KeyFile, skipVerify: true}}
		c, err := f.outgoing(zap.NewNop())
		if want == "" && (err != nil || !c.InsecureSkipVerify) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", pair.CertFile, err)
		}
	}
}

// A domain that has no records is an error that names what was looked up.
func TestProxyDomain(t *testing.T) {
	f := proxyFlags{proxyMembers: proxyMembers{domain: "nowhere.invalid"}}
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := f.members(ctx, nil); err == nil || !strings.Contains(err.Error(), "_etcd-client-ssl._tcp.nowhere.invalid") {
		t.Error(err)
	}
}

// Every flag of etcd 3.7.3's is there, with its type and default.
func TestProxyFlags(t *testing.T) {
	file, err := os.Open(filepath.Join("testdata", "grpc-proxy-help.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	status, out, errs := invoke(t, nil, "grpc-proxy", "start", "--help")
	if status != exitOK || errs != "" {
		t.Fatalf("%d %q", status, errs)
	}
	lines, n := bufio.NewScanner(file), 0
	for lines.Scan() {
		n++
		flag, fallback, _ := strings.Cut(lines.Text(), "\t")
		at := strings.Index(out, "--"+flag+" ")
		if at < 0 {
			t.Errorf("no --%s", flag)
			continue
		}
		line, _, _ := strings.Cut(out[at:], "\n")
		if fallback != "" && !strings.HasSuffix(line, "(default "+fallback+")") {
			t.Errorf("%q: not (default %s)", line, fallback)
		}
	}
	if n < 30 {
		t.Errorf("only %d flags in the file", n)
	}
}
