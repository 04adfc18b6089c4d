package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/test/authority"
	"keelson/test/process"
)

// mutual is a cluster whose members and clients show each other certificates of one authority.
type mutual struct {
	dir            string
	ca             *authority.Authority
	member, client authority.Pair
	all            []*process.Member
}

func (c *mutual) at(name string) string { return filepath.Join(c.dir, name) }

// mutualFlags are those of a member with the files of dir.
func (c *mutual) flags() []string {
	return []string{
		"--cert-file=" + c.member.CertFile, "--key-file=" + c.member.KeyFile, "--trusted-ca-file=" + c.at("ca"), "--client-cert-auth",
		"--peer-cert-file=" + c.member.CertFile, "--peer-key-file=" + c.member.KeyFile, "--peer-trusted-ca-file=" + c.at("ca"), "--peer-client-cert-auth",
		"--client-crl-file=" + c.at("crl"), "--peer-crl-file=" + c.at("crl"),
	}
}

// threeMutual starts a cluster of three.
func threeMutual(t *testing.T, flags ...string) *mutual {
	t.Helper()
	c := &mutual{dir: t.TempDir(), ca: authority.New(t, "first")}
	c.member, c.client = c.ca.Local(c.dir, "member"), c.ca.Local(c.dir, "client")
	authority.Bundle(t, c.at("ca"), c.ca)
	c.ca.Revoke(c.at("crl"))
	c.all = process.Cluster(t, []process.Program{keelson, keelson, keelson}, append(c.flags(), flags...)...)
	process.Secure(c.all, authority.Client(&c.client, c.ca), true)
	for _, m := range c.all {
		m.Start()
	}
	for _, m := range c.all {
		m.WaitHealthy()
	}
	return c
}

const (
	// servedTime is what a call gets that is to be served; refusedTime one that is to be refused, and asks again for as long.
	servedTime  = 30 * time.Second
	refusedTime = 2 * time.Second
)

// letIn reads one key of a member over a new connection, with patience.
func letIn(t *testing.T, m *process.Member, config *tls.Config) error {
	t.Helper()
	return getBy(t, m, config, servedTime)
}

// keptOut is letIn for who is to be refused.
func keptOut(t *testing.T, m *process.Member, config *tls.Config) error {
	t.Helper()
	return getBy(t, m, config, refusedTime)
}

func getBy(t *testing.T, m *process.Member, config *tls.Config, within time.Duration) error {
	t.Helper()
	scheme := "https://"
	if config == nil {
		scheme = "http://"
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{scheme + m.ClientAddr}, TLS: config, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_, err = c.Get(ctx, "k")
	return err
}

// Members and clients with certificates work together; nobody else gets in, and the log says who it was.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	c := threeMutual(t)
	cli := process.Dial(t, c.all...)
	if _, err := process.Answered(t, func() (*clientv3.PutResponse, error) { return cli.Put(t.Context(), "k", "v") }); err != nil {
		t.Fatal(err)
	}
	stranger := authority.New(t, "other").Local(c.dir, "stranger")
	m := c.all[0]
	for name, config := range map[string]*tls.Config{
		"without a certificate": authority.Client(nil, c.ca), "of another authority": authority.Client(&stranger, c.ca), "in plain text": nil,
	} {
		if err := keptOut(t, m, config); err == nil {
			t.Errorf("a client %s was let in", name)
		}
	}
	for _, want := range []string{
		`"msg":"rejected connection on client endpoint"`, `"error":"tls: client didn't provide a certificate"`,
		`certificate signed by unknown authority`, `"error":"tls: first record does not look like a TLS handshake"`, `"dns-names":["localhost"]`,
		`"msg":"serving client traffic securely"`,
	} {
		process.AwaitLog(m, want)
	}
	body, err := m.HTTP("/metrics")
	if want := fmt.Sprintf(`keelson_tls_certificate_expiry_timestamp_seconds{file="%s",port="peer"`, c.member.CertFile); err != nil || !strings.Contains(body, want) {
		t.Errorf("no metric tells when the certificate ends: %v", err)
	}
	for who, config := range map[string]*tls.Config{"nobody": authority.Client(nil, c.ca), "a member": authority.Client(&c.member, c.ca)} {
		h := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: process.Patience}
		r, err := h.Get("https://" + m.PeerAddr + "/version")
		if err == nil {
			r.Body.Close()
		}
		if (err == nil) != (who == "a member") {
			t.Errorf("%s asks the peer port: %v", who, err)
		}
	}
	failover(t, c.all)
}

// failover kills the leader and wants the others to serve as soon as they do without TLS.
func failover(t *testing.T, all []*process.Member) {
	t.Helper()
	bestOf(t, func() error {
		lead := leader(t, all)
		left := []*process.Member{all[(lead+1)%3], all[(lead+2)%3]}
		clients := process.Dial(t, left...)
		all[lead].Kill()
		began := time.Now()
		_, err := clients.Put(t.Context(), "after", "1")
		took := time.Since(began)
		t.Logf("the first write after the leader was killed took %v", took)
		all[lead].Serve()
		if err == nil && took > 3*time.Second {
			err = fmt.Errorf("the first write after the leader was killed took %v", took)
		}
		return err
	})
	agreeOnHash(t, all)
}

// Members make their own certificates and keep them.
func TestAutoTLS(t *testing.T) {
	t.Parallel()
	all := process.Cluster(t, []process.Program{keelson, keelson, keelson}, "--auto-tls", "--peer-auto-tls")
	var shown []*x509.Certificate
	blind := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error { return nil }}
	process.Secure(all, blind, true)
	for round := range 2 {
		for _, m := range all {
			m.Start()
		}
		for i, m := range all {
			m.WaitHealthy()
			c, err := tls.Dial("tcp", m.ClientAddr, blind)
			if err != nil {
				t.Fatal(err)
			}
			cert := c.ConnectionState().PeerCertificates[0]
			c.Close()
			if round == 0 {
				shown = append(shown, cert)
			} else if !cert.Equal(shown[i]) {
				t.Errorf("%s made another certificate at its second start", m.Name)
			}
			if err := cert.VerifyHostname("127.0.0.1"); err != nil {
				t.Error(err)
			}
			if err := keptOut(t, m, nil); err == nil {
				t.Errorf("%s serves plain text", m.Name)
			}
			for _, kind := range []string{"client", "peer"} {
				if _, err := os.Stat(filepath.Join(m.Dir, "fixtures", kind, "key.pem")); err != nil {
					t.Error(err)
				}
			}
		}
		for _, m := range all {
			m.Stop()
		}
	}
}

// What is revoked is refused by the next handshake, on every client port, and so is what a removed authority issued.
func TestRevokedWhileRunning(t *testing.T) {
	t.Parallel()
	c := threeMutual(t)
	apart := process.Single(t, keelson, "", append(c.flags(), "--listen-client-http-urls=https://"+process.FreeAddrs(t, 1)[0])...)
	process.Secure([]*process.Member{apart}, authority.Client(&c.client, c.ca), true)
	apart.Start()
	bad := c.ca.Local(c.dir, "bad")
	config := authority.Client(&bad, c.ca)
	ports := append([]*process.Member{apart}, c.all...)
	for _, m := range ports {
		process.Until(t, m.Name+" serves the certificate", func() error { return letIn(t, m, config) })
	}
	c.ca.Revoke(c.at("crl"), bad)
	for _, m := range ports {
		if err := keptOut(t, m, config); err == nil {
			t.Errorf("%s serves a revoked certificate", m.Name)
		}
		process.AwaitLog(m, fmt.Sprintf("transport: certificate serial %x revoked", bad.Leaf.SerialNumber.Bytes()))
	}
	authority.Bundle(t, c.at("ca"), authority.New(t, "second"))
	if err := keptOut(t, apart, authority.Client(&c.client, c.ca)); err == nil {
		t.Error("a certificate of an authority that is no longer trusted is served")
	}
}

// An authority is replaced by another one under load, A → A+B → B, in the members' certificates and in what they trust: no
// request fails, and no election is held. In the end only the new one counts, also between members.
func TestAuthorityRotates(t *testing.T) {
	t.Parallel()
	c := threeMutual(t, steady)
	changes := func() (n float64) {
		for _, m := range c.all {
			n += m.Metric("etcd_server_leader_changes_seen_total")
		}
		return n
	}
	b := authority.New(t, "second")
	newClient := b.Local(c.dir, "new-client")
	before := changes()
	load := process.StartLoad(t, process.Dial(t, c.all...), "load", 200)
	load.Await(t, 200)
	steady := func(step string, config *tls.Config) {
		t.Helper()
		for _, m := range c.all { // new connections, beside those of the load
			if err := letIn(t, m, config); err != nil {
				t.Errorf("%s: %s: %v", step, m.Name, err)
			}
		}
		load.Await(t, 300)
	}
	oldTrustsAll, newTrustsAll := authority.Client(&c.client, c.ca, b), authority.Client(&newClient, c.ca, b)
	authority.Bundle(t, c.at("ca"), c.ca, b)
	steady("both authorities", oldTrustsAll)
	steady("both authorities, a new client", newTrustsAll)
	c.member = b.Local(c.dir, "member")
	steady("new certificates", newTrustsAll)
	steady("new certificates, an old client", oldTrustsAll)
	authority.Bundle(t, c.at("ca"), b)
	onlyNew := authority.Client(&newClient, b)
	steady("the new authority alone", onlyNew)
	load.Stop()
	if len(load.Failed) > 0 {
		t.Errorf("%d requests failed, such as %v", len(load.Failed), load.Failed[0])
	}
	process.Secure(c.all, onlyNew, true)
	if n := changes(); n != before {
		t.Errorf("%v elections were held", n-before)
	}
	if err := keptOut(t, c.all[0], oldTrustsAll); err == nil {
		t.Error("a client of the old authority is let in")
	}
	n := load.Check(t, process.Dial(t, c.all...))
	t.Logf("%d puts while the authority was replaced, the slowest took %v", n, load.Slowest)
	failover(t, c.all) // members open new connections to each other
}

// A member whose certificate is for another address is kept out, and let in where addresses are not checked.
func TestMemberFromElsewhere(t *testing.T) {
	t.Parallel()
	for _, skip := range []bool{false, true} {
		dir := t.TempDir()
		ca := authority.New(t, "ca")
		authority.Bundle(t, filepath.Join(dir, "ca"), ca)
		here := ca.Local(dir, "here")
		// It serves as localhost and calls as somebody from elsewhere.
		calls := ca.Local(dir, "elsewhere", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(192, 0, 2, 1)} })
		flags := []string{
			"--peer-cert-file=" + here.CertFile, "--peer-key-file=" + here.KeyFile, "--peer-trusted-ca-file=" + filepath.Join(dir, "ca"), "--peer-client-cert-auth",
			fmt.Sprintf("--peer-skip-client-san-verification=%t", skip),
		}
		all := process.Cluster(t, []process.Program{keelson, keelson}, flags...)
		process.Secure(all, nil, true)
		all[1].Flags = append(all[1].Flags, "--peer-client-cert-file="+calls.CertFile, "--peer-client-key-file="+calls.KeyFile)
		for _, m := range all {
			m.Start()
		}
		if skip {
			all[1].WaitHealthy()
			continue
		}
		process.Until(t, "the member is refused", func() error {
			log := all[0].Log()
			if !strings.Contains(log, "rejected connection on peer endpoint") || !strings.Contains(log, `"ip-addresses":["192.0.2.1"]`) || !strings.Contains(log, "not 127.0.0.1") {
				return errors.New("nothing in the log")
			}
			return nil
		})
	}
}
