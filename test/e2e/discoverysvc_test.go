package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"keelson/test/authority"
	"keelson/test/process"
)

// founder makes a member that knows nothing but a discovery URL.
func founder(t *testing.T, name, url string, env ...string) *process.Member {
	t.Helper()
	m := process.Single(t, keelson, "")
	m.Name, m.Bare, m.Env = name, true, env
	m.Flags = []string{
		"--name=" + name, "--data-dir=" + m.Dir, "--listen-client-urls=" + m.ClientURL(), "--advertise-client-urls=" + m.ClientURL(),
		"--listen-peer-urls=" + m.PeerURL(), "--initial-advertise-peer-urls=" + m.PeerURL(), "--discovery=" + url,
	}
	return m
}

// fetched asks the discovery service as a browser does.
func fetched(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", url, resp.Status, body, err)
	}
	return string(body)
}

// Three members found a cluster by a discovery service behind https, which crashes while two of them wait. A fourth is told
// that the cluster is full, and people see on the page what happened.
func TestDiscoveryService(t *testing.T) {
	membersOnly(t, "a proxy lists itself instead of the members")
	t.Parallel()
	plainOnly(t, "members that find each other are given no users")
	dir, ca := t.TempDir(), authority.New(t, "discovery")
	pair, roots := ca.Local(dir, "service"), filepath.Join(dir, "ca")
	authority.Bundle(t, roots, ca)
	service := process.Single(t, keelson, "")
	service.Bare, service.TLS = true, authority.Client(nil, ca)
	service.Flags = []string{"discovery", "start", "--listen-addr=" + service.ClientAddr, "--data-dir=" + service.Dir, "--cert-file=" + pair.CertFile, "--key-file=" + pair.KeyFile}
	service.Serve()
	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: service.TLS, DisableKeepAlives: true}}
	token := fetched(t, browser, service.ClientURL()+"/new?size=3")
	if !strings.HasPrefix(token, service.ClientURL()+"/") {
		t.Fatal(token)
	}
	page := service.ClientURL() + "/?token=" + url.QueryEscape(token)
	var all []*process.Member
	for i := range 3 {
		all = append(all, founder(t, fmt.Sprint("infra", i), token, "SSL_CERT_FILE="+roots))
	}
	all[0].Start()
	all[1].Start()
	process.Until(t, "two have registered", func() error {
		if body := fetched(t, browser, page); !strings.Contains(body, "2 of 3 members have registered") {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
	service.Kill()
	service.Serve()
	all[2].Start()
	for _, m := range all {
		m.WaitHealthy()
	}
	process.Until(t, "all three are one cluster", func() error {
		if list := all[0].Ctl("member", "list"); strings.Count(list, "started") != 3 {
			return fmt.Errorf("%s", list)
		}
		return nil
	})
	if log := founder(t, "infra9", token, "SSL_CERT_FILE="+roots).Refused(); !strings.Contains(log, "full") {
		t.Errorf("a fourth is told: %s", log)
	}
	if body := fetched(t, browser, page); !strings.Contains(body, "The cluster is complete") || !strings.Contains(body, "infra2="+all[2].PeerURL()) || strings.Contains(body, "infra9") {
		t.Errorf("%s", body)
	}
}
