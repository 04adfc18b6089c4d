package main

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
)

// pointer answers every look-up of the service without TLS with one place.
type pointer struct {
	t    *testing.T
	addr string
}

func (p pointer) LookupSRV(_ context.Context, service, _, domain string) (string, []*net.SRV, error) {
	if domain != "example.com" || service != "etcd-client" && service != "etcd-client-blue" {
		return "", nil, &net.DNSError{Err: "no such host", Name: service + " " + domain, IsNotFound: true}
	}
	host, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		p.t.Error(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		p.t.Error(err)
	}
	return "", []*net.SRV{{Target: host + ".", Port: uint16(n)}}, nil
}

// Endpoints come from DNS, in place of --endpoints; those without TLS only where they may.
func TestDiscovery(t *testing.T) {
	f := startFake(t, false)
	for _, c := range []struct {
		args, env string
		status    int
		diag      string
	}{
		{"-d example.com put a b", "", 0, ""},
		{"--discovery-srv=example.com --discovery-srv-name=blue --endpoints=127.0.0.1:1 put a b", "", 0, ""},
		{"put a b", "ETCDCTL_DISCOVERY_SRV=example.com", 0, ""},
		{"-d example.com --insecure-discovery=false put a b", "", statusError, "without TLS"},
		{"-d example.org put a b", "", statusError, "--discovery-srv=example.org: look up _etcd-client-ssl._tcp.example.org"},
	} {
		var out, diag bytes.Buffer
		a := &app{args: strings.Fields(c.args), env: []string{c.env}, in: strings.NewReader(""), out: &out, diag: &diag}
		a.set.srv.resolver = pointer{t, f.addr}
		if status := a.run(); status != c.status || !strings.Contains(diag.String(), c.diag) {
			t.Errorf("%s %s: exit %d, %q, %q", c.env, c.args, status, out.String(), diag.String())
		}
	}
}
