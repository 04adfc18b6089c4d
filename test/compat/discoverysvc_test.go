package compat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"keelson/test/process"
)

// discoveryService runs Keelson's discovery service, with its tokens in a directory of its own or as flags say.
func discoveryService(t *testing.T, flags ...string) *process.Member {
	t.Helper()
	s := process.Single(t, ours(t), "")
	s.Bare, s.Flags = true, append([]string{"discovery", "start", "--listen-addr=" + s.ClientAddr}, flags...)
	if len(flags) == 0 {
		s.Flags = append(s.Flags, "--data-dir="+s.Dir)
	}
	return s.Serve()
}

// founder makes a member that knows nothing but a discovery URL.
func founder(t *testing.T, p process.Program, name, url string) *process.Member {
	t.Helper()
	m := process.Single(t, p, "")
	m.Name, m.Bare = name, true
	m.Flags = []string{
		"--name=" + name, "--data-dir=" + m.Dir, "--listen-client-urls=" + m.ClientURL(), "--advertise-client-urls=" + m.ClientURL(),
		"--listen-peer-urls=" + m.PeerURL(), "--initial-advertise-peer-urls=" + m.PeerURL(), "--discovery=" + url, "--discovery-fallback=exit",
	}
	return m
}

// body asks a discovery service.
func body(ctx context.Context, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status + ": " + string(text))
	}
	return string(text), err
}

// Members of stock etcd 3.4, whose discovery client was the last for such services, found a cluster by Keelson's: one waits for
// the others over a crash of the service, and a fourth is told that the cluster is full. Tokens may be in a stock cluster too.
func TestDiscoveryService(t *testing.T) {
	t.Parallel()
	for _, keeper := range []string{"itself", "etcd35", "etcd37"} {
		t.Run(keeper, func(t *testing.T) {
			t.Parallel()
			etcd := stock(t, "etcd34")
			var flags []string
			if keeper != "itself" {
				flags = []string{"--endpoints=" + single(t, stock(t, keeper)).Serve().ClientURL()}
			}
			service := discoveryService(t, flags...)
			url, err := body(t.Context(), service.ClientURL()+"/new?size=3")
			if err != nil {
				t.Fatal(err)
			}
			var all []*process.Member
			for i := range 3 {
				all = append(all, founder(t, etcd, fmt.Sprint("machine-", i), url))
			}
			all[0].Start()
			process.Until(t, "the first one waits", func() error {
				if log := all[0].Log(); !strings.Contains(log, "waiting for 2 more") {
					return errors.New(log)
				}
				return nil
			})
			if list, err := body(t.Context(), url); err != nil || !strings.Contains(list, `"value":"machine-0=`+all[0].PeerURL()+`"`) {
				t.Errorf("%v %s", err, list)
			}
			service.Kill()
			service.Serve()
			all[1].Start()
			all[2].Start()
			for _, m := range all {
				m.WaitHealthy()
			}
			founded(t, all)
			if log := founder(t, etcd, "machine-9", url).Refused(); !strings.Contains(log, "full") {
				t.Errorf("a fourth member is told: %s", log)
			}
			page, err := body(t.Context(), service.ClientURL()+"/?token="+url)
			if err != nil || !strings.Contains(page, "3 of 3 members have registered") || !strings.Contains(page, "machine-2="+all[2].PeerURL()) {
				t.Errorf("%v %s", err, page)
			}
		})
	}
}

// founded looks whether members are one cluster.
func founded(t *testing.T, all []*process.Member) {
	t.Helper()
	c := process.Dial(t, all[0])
	defer c.Close()
	process.Until(t, "all are members", func() error {
		list, err := c.MemberList(t.Context())
		if err == nil && len(list.Members) != len(all) {
			err = fmt.Errorf("%v", list.Members)
		}
		return err
	})
	if err := process.Settled(t, func() error { _, err := c.Put(t.Context(), "a", "b"); return err }); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		own := process.Dial(t, m)
		if r, err := own.Get(t.Context(), "a"); err != nil || len(r.Kvs) != 1 {
			t.Errorf("%s: %v %v", m.Name, r, err)
		}
		own.Close()
	}
}
