package process

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"keelson/test/authority"
)

// hostsNet is set aside for documentation: it is nobody's network. Hosts have the addresses .1, .2, …
const hostsNet = "198.51.100."

// certs are the certificates of one cluster, as its members, clients and etcdctl are given them.
type certs struct {
	client     *tls.Config // nil: there are none
	flags, ctl []string
}

// issue gives every cluster mutual TLS where KEELSON_TLS is set: what works in plain text has to work so too.
func issue(t testing.TB) (c certs, secure bool) {
	t.Helper()
	if os.Getenv("KEELSON_TLS") == "" {
		return certs{}, false
	}
	dir := t.TempDir()
	ca := authority.New(t, "ca")
	bundle := filepath.Join(dir, "ca.crt")
	authority.Bundle(t, bundle, ca)
	member := ca.Local(dir, "member", func(c *x509.Certificate) {
		for n := 1; n < 10; n++ {
			c.IPAddresses = append(c.IPAddresses, net.ParseIP(hostsNet+strconv.Itoa(n)))
		}
	})
	client := ca.Local(dir, "root") // a name that may do everything, where users are asked for
	return certs{
		client: authority.Client(&client, ca),
		flags: []string{
			"--cert-file=" + member.CertFile, "--key-file=" + member.KeyFile, "--trusted-ca-file=" + bundle, "--client-cert-auth",
			"--peer-cert-file=" + member.CertFile, "--peer-key-file=" + member.KeyFile, "--peer-trusted-ca-file=" + bundle, "--peer-client-cert-auth",
		},
		ctl: []string{"ETCDCTL_CACERT=" + bundle, "ETCDCTL_CERT=" + client.CertFile, "ETCDCTL_KEY=" + client.KeyFile},
	}, true
}
