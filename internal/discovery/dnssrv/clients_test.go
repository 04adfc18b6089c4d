package dnssrv

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

// zone answers from a list, "service domain" to records.
type zone map[string][]*net.SRV

var errNoSuchHost = errors.New("no such host")

func (z zone) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	records, ok := z[service+" "+proto+" "+name]
	if !ok {
		return "", nil, errNoSuchHost
	}
	return "", records, nil
}

func TestClients(t *testing.T) {
	z := zone{
		"etcd-client-ssl tcp example.com": {{Target: "b.example.com.", Port: 2379, Priority: 10, Weight: 5}, {Target: "a.example.com.", Port: 2379, Priority: 1}},
		"etcd-client tcp example.com":     {{Target: "c.example.com.", Port: 12379}},
		"etcd-client-blue tcp example.com": {
			{Target: "d.example.com.", Port: 2379},
		},
		"etcd-client tcp empty.com": {},
	}
	for _, c := range []struct{ domain, name, want string }{
		{"example.com", "", "https://a.example.com:2379 https://b.example.com:2379 http://c.example.com:12379"},
		{"example.com", "blue", "http://d.example.com:2379"},
	} {
		targets, err := Clients(t.Context(), z, c.domain, c.name)
		var got []string
		for _, x := range targets {
			got = append(got, x.URL())
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s %q: %v, %v", c.domain, c.name, got, err)
		}
	}
	targets, err := Clients(t.Context(), z, "example.com", "")
	if err != nil || !slices.Contains(targets, Target{Host: "b.example.com", Port: 2379, TLS: true, Priority: 10, Weight: 5}) {
		t.Errorf("%+v, %v", targets, err)
	}
}

// Without a record the error says what was asked for.
func TestNoClients(t *testing.T) {
	_, err := Clients(t.Context(), zone{"etcd-client-x tcp empty.com": {}}, "empty.com", "x")
	if !errors.Is(err, ErrNone) || !errors.Is(err, errNoSuchHost) || !strings.Contains(err.Error(), "_etcd-client-ssl-x._tcp.empty.com") {
		t.Error(err)
	}
}

// Endpoints without TLS count only where that is said.
func TestEndpoints(t *testing.T) {
	z := zone{
		"etcd-client-ssl tcp example.com":   {{Target: "a.example.com.", Port: 2379}},
		"etcd-client tcp example.com":       {{Target: "b.example.com.", Port: 2379}},
		"etcd-client-plain tcp example.com": {{Target: "c.example.com.", Port: 2379}},
	}
	for _, c := range []struct {
		name     string
		insecure bool
		want     string
		err      error
	}{
		{"", true, "https://a.example.com:2379 http://b.example.com:2379", nil},
		{"", false, "https://a.example.com:2379", nil},
		{"plain", true, "http://c.example.com:2379", nil},
		{"plain", false, "", ErrNoTLS},
		{"none", true, "", errNoSuchHost},
	} {
		got, err := Endpoints(t.Context(), z, "example.com", c.name, c.insecure)
		if strings.Join(got, " ") != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q %t: %v, %v", c.name, c.insecure, got, err)
		}
	}
}
