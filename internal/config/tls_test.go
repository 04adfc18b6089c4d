package config

import (
	"crypto/tls"
	"reflect"
	"strings"
	"testing"
)

const secureURLs = " --listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379 --listen-peer-urls=https://127.0.0.1:2380"

// What etcd refuses at its start or at the first connection is refused here before anything is opened.
func TestTLSRefusals(t *testing.T) {
	client, peer := " --cert-file=c --key-file=k", " --peer-cert-file=c --peer-key-file=k"
	for line, want := range map[string]string{
		secureURLs + client:                                 "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url https://127.0.0.1:2380 with HTTPS scheme",
		secureURLs + peer:                                   "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:2379 with HTTPS scheme",
		"--listen-metrics-urls=https://127.0.0.1:1":         "(--cert-file, --key-file) must be provided for client url https://127.0.0.1:1",
		"--listen-client-http-urls=https://127.0.0.1:1":     "(--cert-file, --key-file) must be provided for client url https://127.0.0.1:1",
		"--cert-file=c":                                     `--cert-file and --key-file must both be present or both absent: key: "", cert: "c"`,
		"--client-key-file=k" + client:                      `--client-cert-file and --client-key-file must both be present or both absent`,
		"--peer-key-file=k":                                 "--peer-cert-file and --peer-key-file must both",
		"--peer-client-cert-file=k" + peer:                  "--peer-client-cert-file and --peer-client-key-file must both",
		"--cipher-suites=NOPE":                              `unexpected TLS cipher suite "NOPE"`,
		"--cipher-suites=TLS_AES_128_GCM_SHA256":            "HTTP/2-required",
		"--tls-min-version=TLS1.1":                          `unexpected TLS version "TLS1.1"`,
		"--tls-max-version=TLS1.4":                          `unexpected TLS version "TLS1.4"`,
		"--tls-min-version=TLS1.3 --tls-max-version=TLS1.2": "min version (TLS1.3) is greater than max version (TLS1.2)",
		"--tls-min-version=TLS1.3 --cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "cipher suites cannot be configured when only TLS1.3 is enabled",
		"--auto-tls --self-signed-cert-validity=0":                                       "should be greater than 0",
		"--peer-cert-allowed-cn=a --peer-cert-allowed-hostname=b" + peer:                 "mutually exclusive (cns=[\"a\"], hostnames=[\"b\"])",
		"--peer-auto-tls --peer-cert-allowed-cn=a":                                       "nobody vouches for",
		"--listen-peer-urls=unixs:///tmp/x" + peer:                                       "members call each other at https://",
	} {
		if c, _, err := Parse(strings.Fields(line), nil, noFile); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q (%v)", line, err, want, c != nil)
		}
	}
}

// Flags, environment and the keys of a file fill the same fields.
func TestTLSSettings(t *testing.T) {
	want := Security{
		Client: TLS{
			CertFile: "c", KeyFile: "k", ClientCertFile: "cc", ClientKeyFile: "ck", CAFile: "ca", CRLFile: "crl", CertAuth: true, Auto: true,
			AllowedHostnames: []string{"h1", "h2"},
		},
		Peer: TLS{
			CertFile: "pc", KeyFile: "pk", ClientCertFile: "pcc", ClientKeyFile: "pck", CAFile: "pca", CRLFile: "pcrl", CertAuth: true, Auto: true,
			AllowedCNs: []string{"n1", "n2"}, SkipSAN: true,
		},
		SelfSignedYears: 3, Origins: []string{"http://a"}, Hosts: []string{"b", "c"},
	}
	want.Limits.MinVersion, want.Limits.MaxVersion = tls.VersionTLS12, tls.VersionTLS13
	want.Limits.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	suites := "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	flags := `--cert-file=c --key-file=k --client-cert-file=cc --client-key-file=ck --trusted-ca-file=ca --client-crl-file=crl --client-cert-auth --auto-tls
		--client-cert-allowed-hostname=h2,h1 --peer-cert-file=pc --peer-key-file=pk --peer-client-cert-file=pcc --peer-client-key-file=pck
		--peer-trusted-ca-file=pca --peer-crl-file=pcrl --peer-client-cert-auth=true --peer-auto-tls --peer-cert-allowed-cn=n1,n2
		--peer-skip-client-san-verification --self-signed-cert-validity=3 --cors=http://a --host-whitelist=b,c --tls-max-version=TLS1.3 --cipher-suites=` + suites
	var environ []string
	for _, f := range strings.Fields(flags) {
		name, text, found := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		if !found {
			text = "true"
		}
		environ = append(environ, Env(name)+"="+text)
	}
	file := `
client-transport-security: {cert-file: c, key-file: k, client-cert-file: cc, client-key-file: ck, trusted-ca-file: ca, client-cert-auth: true, auto-tls: true, allowed-hostname: [h1, h2]}
peer-transport-security: {cert-file: pc, key-file: pk, client-cert-file: pcc, client-key-file: pck, trusted-ca-file: pca, client-cert-auth: true, auto-tls: true, allowed-cn: [n1, n2], skip-client-san-verification: true}
client-crl-file: crl
peer-crl-file: pcrl
self-signed-cert-validity: 3
cors: http://a
host-whitelist: b,c
tls-max-version: TLS1.3
cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
`
	for name, parse := range map[string]func() (*Config, []string, error){
		"flags":       func() (*Config, []string, error) { return Parse(strings.Fields(flags), nil, noFile) },
		"environment": func() (*Config, []string, error) { return Parse(nil, environ, noFile) },
		"file":        func() (*Config, []string, error) { return Parse([]string{"--config-file=f"}, nil, oneFile(file)) },
	} {
		c, _, err := parse()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(c.Security, want) {
			t.Errorf("%s: %+v", name, c.Security)
		}
	}
}
