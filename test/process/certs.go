package process

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/authority"
)

// hostsNet is set aside for documentation: it is nobody's network. Hosts have the addresses .1, .2, …
const hostsNet = "198.51.100."

// certs are the certificates of one cluster, as its members, clients and etcdctl are given them.
type certs struct {
	client     *tls.Config // nil: there are none
	flags, ctl []string
	users      *users // nil where there are no certificates
}

// users has a cluster ask for users from when it first serves. Who shows the clients' certificate is root by its name.
type users struct{ once sync.Once }

func (u *users) enable(m *Member) {
	if u == nil || m.Bare || m.TLS != nil { // or it has other certificates, or none
		return
	}
	u.once.Do(func() {
		m.t.Helper()
		c := m.Client()
		ctx := m.t.Context()
		_, err := Answered(m.t, func() (*clientv3.AuthUserAddResponse, error) {
			return c.UserAddWithOptions(ctx, rootUser, "", &clientv3.UserAddOptions{NoPassword: true})
		})
		if errors.Is(err, rpctypes.ErrUserAlreadyExist) {
			err = nil // the directory has lived before
		}
		if err == nil {
			_, err = Answered(m.t, func() (*clientv3.AuthUserGrantRoleResponse, error) { return c.UserGrantRole(ctx, rootUser, rootUser) })
		}
		if err == nil {
			_, err = Answered(m.t, func() (*clientv3.AuthEnableResponse, error) { return c.AuthEnable(ctx) })
		}
		if err != nil {
			m.t.Fatalf("%s asks for no users: %v", m.Name, err)
		}
	})
}

// rootUser is the name of the user, and of the role, that may do everything.
const rootUser = "root"

// issue gives every cluster mutual TLS and users where KEELSON_TLS is set: what works in plain text has to work so too.
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
	client := ca.Local(dir, rootUser)
	return certs{
		client: authority.Client(&client, ca),
		flags: []string{
			"--cert-file=" + member.CertFile, "--key-file=" + member.KeyFile, "--trusted-ca-file=" + bundle, "--client-cert-auth",
			"--peer-cert-file=" + member.CertFile, "--peer-key-file=" + member.KeyFile, "--peer-trusted-ca-file=" + bundle, "--peer-client-cert-auth",
		},
		ctl:   []string{"ETCDCTL_CACERT=" + bundle, "ETCDCTL_CERT=" + client.CertFile, "ETCDCTL_KEY=" + client.KeyFile},
		users: &users{},
	}, true
}
