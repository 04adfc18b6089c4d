package compat

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keelson/test/process"
)

// A discovery URL of either kind of service brings members of both kinds together: they compute the same identities from it.
// Members of 3.4 can be in no cluster with those of 3.7; they find each other by Keelson.
func TestDiscoveryV2(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ service, kinds []string }{
		"at etcd":        {[]string{"etcd34"}, []string{"keelson", "etcd35", "keelson"}},
		"at Keelson":     {[]string{"keelson"}, []string{"etcd35", "keelson", "etcd35"}},
		"3.4's founders": {[]string{"keelson"}, []string{"etcd34", "etcd34", "etcd34"}},
	} {
		t.Run(name, func(t *testing.T) {
			service := single(t, named(t, c.service)[0], "--enable-v2").Serve()
			at := service.ClientURL() + "/v2/keys/discovery/6c007a14875d53d9bf0ef5a6fc0257c817f0fb83"
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, at+"/_config/size", strings.NewReader(url.Values{"value": {"3"}}.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			all := process.Strangers(t, named(t, c.kinds), "--discovery="+at)
			for _, m := range all {
				m.Start()
			}
			meet(t, all)
		})
	}
}

// A token in a cluster of either kind brings members of both kinds together. Each kind writes what the other reads.
func TestDiscoveryV3(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ registry, kinds []string }{
		"at etcd":    {[]string{"etcd37"}, []string{"keelson", "etcd37", "keelson"}},
		"at Keelson": {[]string{"keelson"}, []string{"etcd36", "keelson", "etcd37"}},
	} {
		t.Run(name, func(t *testing.T) {
			registry := single(t, named(t, c.registry)[0]).Serve()
			client := registry.Client()
			defer client.Close()
			if _, err := client.Put(t.Context(), "/_etcd/registry/tok/_config/size", "3"); err != nil {
				t.Fatal(err)
			}
			all := process.Strangers(t, named(t, c.kinds), "--discovery-token=tok", "--discovery-endpoints="+registry.ClientURL())
			for _, m := range all {
				m.Start()
			}
			meet(t, all)
			for _, m := range all {
				key := fmt.Sprintf("/_etcd/registry/tok/members/%x", m.ID())
				got, err := client.Get(t.Context(), key)
				if want := m.Name + "=" + m.PeerURL(); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != want {
					t.Errorf("%s (%s) wrote at %s not %q but %v (%v)", m.Name, m.Program.Name, key, want, got, err)
				}
			}
		})
	}
}

// etcd's group of keys in a configuration file means the same to both: here members of both kinds are given it, with a user.
func TestDiscoveryFile(t *testing.T) {
	t.Parallel()
	registry := single(t, ours(t)).Serve()
	registry.Ctl("put", "/_etcd/registry/tok/_config/size", "3")
	for _, line := range []string{"user add root:secret", "user grant-role root root", "auth enable"} {
		registry.Ctl(strings.Fields(line)...)
	}
	all := process.Strangers(t, named(t, []string{"keelson", "etcd37", "keelson"}))
	for _, m := range all {
		file := filepath.Join(t.TempDir(), "etcd.yml")
		text := fmt.Sprintf(`{name: %s, data-dir: %q, listen-client-urls: "%s", advertise-client-urls: "%s", listen-peer-urls: "%s", initial-advertise-peer-urls: "%s",
  discovery-config: {token: tok, client: {
    endpoints: ["%s"], dial-timeout: 30000000000, request-timeout: 31000000000, secure: {insecure-transport: true}, auth: {username: root, password: secret}}}}
`, m.Name, m.Dir, m.ClientURL(), m.ClientURL(), m.PeerURL(), m.PeerURL(), registry.ClientURL())
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Bare, m.Flags = true, []string{"--config-file=" + file}
		m.Start()
	}
	meet(t, all)
}

// named gives programs by their names.
func named(t *testing.T, kinds []string) (all []process.Program) {
	t.Helper()
	for _, k := range kinds {
		if k == "keelson" {
			all = append(all, ours(t))
		} else {
			all = append(all, stock(t, k))
		}
	}
	return all
}

// meet waits until members serve as one cluster.
func meet(t *testing.T, all []*process.Member) {
	t.Helper()
	for _, m := range all {
		m.WaitHealthy()
	}
	for _, m := range all {
		process.Until(t, m.Name+" sees all members started", func() error {
			own := m.Client()
			defer own.Close()
			list, err := own.MemberList(t.Context())
			if err != nil {
				return err
			}
			started := 0
			for _, x := range list.Members {
				if len(x.ClientURLs) > 0 {
					started++
				}
			}
			if started != len(all) || len(list.Members) != len(all) {
				return fmt.Errorf("members: %v", list.Members)
			}
			return nil
		})
	}
}
