package compat

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keelson/test/authority"
	"keelson/test/process"
)

// attempt is one connection to a port with TLS.
type attempt struct {
	name   string
	config *tls.Config // nil: plain text
}

// Whoever connects to the client, peer or metrics port is let in or refused as at etcd, and the log says the same of it.
func TestTLSRefusals(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ca := authority.New(t, "ca")
	authority.Bundle(t, at("ca"), ca)
	member, client, revoked := ca.Local(dir, "member"), ca.Local(dir, "client"), ca.Local(dir, "revoked")
	stranger := authority.New(t, "other").Local(dir, "stranger")
	old := ca.Local(dir, "old", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})
	serverOnly := ca.Local(dir, "server-only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	elsewhere := ca.Local(dir, "elsewhere", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(192, 0, 2, 1)} })
	nameless := ca.Local(dir, "nameless", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil })
	ca.Revoke(at("crl"), revoked)
	shows := func(p *authority.Pair) *tls.Config { return authority.Client(p, ca) }
	limited := shows(&client)
	limited.MaxVersion = tls.VersionTLS12
	tooOld := shows(&client)
	tooOld.MinVersion, tooOld.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	attempts := []attempt{
		{"a client", shows(&client)}, {"nobody", shows(nil)}, {"a stranger", shows(&stranger)}, {"plain text", nil}, {"revoked", shows(&revoked)},
		{"expired", shows(&old)}, {"of a server", shows(&serverOnly)}, {"from elsewhere", shows(&elsewhere)}, {"without names", shows(&nameless)},
		{"a member", shows(&member)}, {"TLS 1.2", limited}, {"TLS 1.1", tooOld},
	}
	for _, allowed := range []string{"", "--peer-cert-allowed-cn=member,client", "--peer-cert-allowed-hostname=localhost"} {
		flags := []string{
			"--cert-file=" + member.CertFile, "--key-file=" + member.KeyFile, "--trusted-ca-file=" + at("ca"), "--client-cert-auth", "--client-crl-file=" + at("crl"),
			"--peer-cert-file=" + member.CertFile, "--peer-key-file=" + member.KeyFile, "--peer-trusted-ca-file=" + at("ca"), "--peer-client-cert-auth", "--peer-crl-file=" + at("crl"),
		}
		if allowed != "" {
			flags = append(flags, allowed)
		}
		var seen []map[string]string
		for _, p := range []process.Program{ours(t), stock(t, "etcd37")} {
			metrics := process.FreeAddrs(t, 1)[0]
			m := single(t, p, append(flags, "--listen-metrics-urls=https://"+metrics)...)
			process.Secure([]*process.Member{m}, authority.Client(&client, ca), true)
			m.Serve()
			seen = append(seen, attemptAll(t, m, metrics, attempts))
			m.Stop()
		}
		for name, theirs := range seen[1] {
			if seen[0][name] != theirs {
				t.Errorf("%s: %s\nhere: %s\netcd: %s", allowed, name, seen[0][name], theirs)
			}
		}
	}
}

// attemptAll connects by each attempt to all ports and tells what came of it, and what the log says.
func attemptAll(t *testing.T, m *process.Member, metrics string, attempts []attempt) map[string]string {
	t.Helper()
	came := map[string]string{}
	for _, a := range attempts {
		for port, address := range map[string]string{"client": m.ClientAddr, "peer": m.PeerAddr, "metrics": metrics} {
			before := len(rejections(t, m))
			verdict := "let in"
			if err := askVersion(address, a); err != nil {
				process.Until(t, "the refusal is logged", func() error {
					if all := rejections(t, m); len(all) > before {
						verdict = all[len(all)-1]
						return nil
					}
					return errors.New("it is not")
				})
			}
			came[a.name+" at the "+port+" port"] = verdict
		}
	}
	return came
}

// askVersion calls the server by a name of the attempt's: a refusal for the same reason is one line of the log for each name.
func askVersion(address string, a attempt) error {
	scheme, config := "http", a.config
	if config != nil {
		config, scheme = config.Clone(), "https"
		config.ServerName, config.InsecureSkipVerify = strings.ReplaceAll(a.name, " ", "-"), true
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: process.Patience}
	r, err := c.Get(scheme + "://" + address + "/version")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// rejections are the lines of the log about refused connections, without times and the port of the other side, and without the
// names of its certificate, which etcd tells only of one that was good.
func rejections(t *testing.T, m *process.Member) (all []string) {
	t.Helper()
	for line := range strings.Lines(m.Log()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil || !strings.HasPrefix(fmt.Sprint(fields["msg"]), "rejected connection") {
			continue
		}
		kept := map[string]any{}
		for _, name := range []string{"level", "msg", "server-name", "error"} {
			kept[name], _, _ = strings.Cut(fmt.Sprint(fields[name]), ": current time")
		}
		all = append(all, fmt.Sprint(kept))
	}
	return all
}
