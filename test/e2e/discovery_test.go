package e2e

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/authority"
	"keelson/test/process"
)

// strangers makes members of this program that find each other as the flags say.
func strangers(t *testing.T, n int, flags ...string) []*process.Member {
	t.Helper()
	return process.Strangers(t, slices.Repeat([]process.Program{keelson}, n), flags...)
}

// together waits until members serve, and looks whether they are one cluster and nothing else.
func together(t *testing.T, all []*process.Member) {
	t.Helper()
	for _, m := range all {
		m.WaitHealthy()
	}
	for _, m := range all {
		process.Until(t, "all members have told their names", func() error {
			if list := m.Ctl("member", "list"); strings.Count(list, "started") != len(all) || strings.Count(list, "\n") != len(all) {
				return errUnlike(list)
			}
			return nil
		})
	}
}

type errUnlike string

func (e errUnlike) Error() string { return string(e) }

// Three members that know a URL alone become a cluster, in the order in which they came; a fourth and a namesake are refused,
// and a member that comes back needs the service no more.
func TestDiscoveryV2(t *testing.T) {
	membersOnly(t, "a proxy lists itself instead of the members")
	t.Parallel()
	plainOnly(t, "members that find each other are given no users")
	service := process.Single(t, keelson, "", "--enable-v2").Serve()
	v2(t, service, http.MethodPut, "/disc/tok/_config/size", url.Values{"value": {"3"}})
	flag := "--discovery=" + service.ClientURL() + "/v2/keys/disc/tok"

	all := strangers(t, 4, flag)
	if log := strangers(t, 1, "--discovery="+service.ClientURL()+"/v2/keys/disc/none")[0].Refused(); !strings.Contains(log, "size key not found") {
		t.Errorf("a token that does not exist: %s", log)
	}
	all[1].Start()
	process.Until(t, "the first one waits", func() error {
		if log := all[1].Log(); !strings.Contains(log, `"missing":"2 of 3"`) || !strings.Contains(log, `"here":["m1=`+all[1].PeerURL()) {
			return errUnlike(log)
		}
		return nil
	})
	namesake := strangers(t, 2, flag)[1]
	if log := namesake.Refused(); !strings.Contains(log, "duplicate name") {
		t.Errorf("a namesake: %s", log)
	}
	all[1].Kill() // it has a place and nothing else yet
	all[2].Start()
	all[1].Start()
	all[0].Start()
	together(t, all[:3])
	if log := all[3].Refused(); !strings.Contains(log, "cluster is full") {
		t.Errorf("a fourth: %s", log)
	}
	all[0].Stop()
	service.Stop()
	if all[0].Serve(); !strings.Contains(all[0].Log(), "discovery is ignored") {
		t.Error("a restart does not say that discovery is ignored")
	}
}

// A service behind https is trusted by the system's roots, which SSL_CERT_FILE names; another is reached through a proxy.
func TestDiscoveryV2Ways(t *testing.T) {
	t.Parallel()
	plainOnly(t, "members that find each other are given no users")
	service := process.Single(t, keelson, "", "--enable-v2").Serve()
	for _, token := range []string{"tls", "proxied"} {
		v2(t, service, http.MethodPut, "/disc/"+token+"/_config/size", url.Values{"value": {"1"}})
	}
	inside, err := url.Parse(service.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(inside))
	defer front.Close()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	secure := strangers(t, 1)[0]
	secure.Env = []string{"ETCD_DISCOVERY=" + front.URL + "/v2/keys/disc/tls", "SSL_CERT_FILE=" + roots}
	secure.Serve()

	// The name is one that the proxy alone can make sense of.
	var asked atomic.Int64
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		if r.In.URL.Host == "discovery.invalid" {
			asked.Add(1)
		}
		r.SetURL(inside)
	}})
	defer proxy.Close()
	proxied := strangers(t, 1, "--discovery=http://discovery.invalid/v2/keys/disc/proxied")[0]
	proxied.Env = []string{"ETCD_DISCOVERY_PROXY=" + proxy.URL}
	proxied.Serve()
	if asked.Load() == 0 {
		t.Error("the proxy was not asked")
	}
}

// Three members that know a token alone become a cluster through another one with TLS and users; a fourth is refused, and so
// is who has the wrong password.
func TestDiscoveryV3(t *testing.T) {
	membersOnly(t, "a proxy lists itself instead of the members")
	t.Parallel()
	plainOnly(t, "members that find each other are given no users")
	dir, ca := t.TempDir(), authority.New(t, "discovery")
	pair, client, roots := ca.Local(dir, "member"), ca.Local(dir, "client"), filepath.Join(dir, "ca")
	authority.Bundle(t, roots, ca)
	registry := process.Single(t, keelson, "", "--cert-file="+pair.CertFile, "--key-file="+pair.KeyFile, "--trusted-ca-file="+roots, "--client-cert-auth")
	process.Secure([]*process.Member{registry}, authority.Client(&client, ca), false)
	registry.Serve()
	prepareToken(t, registry, "tok")

	flags := []string{
		"--discovery-token=tok", "--discovery-endpoints=" + registry.ClientURL(), "--discovery-cacert=" + roots,
		"--discovery-cert=" + client.CertFile, "--discovery-key=" + client.KeyFile, "--discovery-user=founder",
	}
	all := strangers(t, 4, flags...)
	all[0].Env = []string{"ETCD_DISCOVERY_PASSWORD=wrong"}
	if log := all[0].Refused(); !strings.Contains(log, "authentication failed") || strings.Contains(log, "wrong\"") {
		t.Errorf("a wrong password: %s", log)
	}
	for _, m := range all {
		m.Env = []string{"ETCD_DISCOVERY_PASSWORD=secret"}
	}
	for _, m := range all[:3] {
		m.Start()
	}
	together(t, all[:3])
	if log := all[3].Refused(); !strings.Contains(log, "cluster is full") {
		t.Errorf("a fourth: %s", log)
	}
	registry.Stop()
	all[1].Kill()
	all[1].Serve()
}

// prepareToken makes a token for three founders, and a user who may do no more than found.
func prepareToken(t *testing.T, registry *process.Member, token string) {
	t.Helper()
	c := registry.Client()
	defer c.Close()
	prefix := "/_etcd/registry/" + token + "/"
	for _, do := range []func() error{
		func() error { _, err := c.Put(t.Context(), prefix+"_config/size", "3"); return err },
		func() error { _, err := c.UserAdd(t.Context(), "root", "secret"); return err },
		func() error { _, err := c.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := c.UserAdd(t.Context(), "founder", "secret"); return err },
		func() error { _, err := c.RoleAdd(t.Context(), "founder"); return err },
		func() error {
			_, err := c.RoleGrantPermission(t.Context(), "founder", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := c.UserGrantRole(t.Context(), "founder", "founder"); return err },
		func() error { _, err := c.AuthEnable(t.Context()); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
}
