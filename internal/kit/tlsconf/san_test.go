package tlsconf

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"testing"
)

// names is a resolver that knows little.
type names struct{ hosts, addrs map[string][]string }

func (n names) LookupHost(_ context.Context, host string) ([]string, error) {
	return known(n.hosts, host)
}
func (n names) LookupAddr(_ context.Context, a string) ([]string, error) { return known(n.addrs, a) }

func known(m map[string][]string, key string) ([]string, error) {
	if v, ok := m[key]; ok {
		return v, nil
	}
	return nil, errors.New("no such host")
}

// The rules are etcd's: an address of the certificate, else any of its DNS names, forwards or backwards.
func TestCheckSAN(t *testing.T) {
	o := Options{Resolver: names{
		hosts: map[string][]string{"a.example": {"192.0.2.1", "2001:db8::1"}, "other.example": {"192.0.2.9"}},
		addrs: map[string][]string{"192.0.2.2": {"node.wild.example."}, "192.0.2.3": {"back.example."}, "192.0.2.4": {"wild.example."}},
	}}
	ip := func(s ...string) (all []net.IP) {
		for _, x := range s {
			all = append(all, net.ParseIP(x))
		}
		return all
	}
	for _, c := range []struct {
		remote string
		ips    []net.IP
		dns    []string
		want   bool
	}{
		{"192.0.2.1", nil, nil, true}, // a certificate that says nothing
		{"192.0.2.1", ip("192.0.2.1"), nil, true},
		{"192.0.2.1", ip("192.0.2.2"), nil, false},
		{"2001:db8::1", ip("2001:db8::1"), nil, true},
		{"192.0.2.1", ip("192.0.2.2"), []string{"a.example"}, true}, // the name counts where the address does not
		{"192.0.2.1", ip("192.0.2.2"), []string{"other.example"}, false},
		{"192.0.2.1", nil, []string{"other.example", "a.example"}, true},
		{"2001:db8:0::1", nil, []string{"a.example"}, true},
		{"192.0.2.1", nil, []string{"unknown.example"}, false},
		{"192.0.2.2", nil, []string{"*.wild.example"}, true},
		{"192.0.2.4", nil, []string{"*.wild.example"}, false}, // the domain itself is no name in it
		{"192.0.2.1", nil, []string{"*.wild.example"}, false},
		{"192.0.2.3", nil, []string{"back.example"}, true}, // backwards alone
		{"192.0.2.2", nil, []string{"*"}, false},
	} {
		err := o.checkSAN(t.Context(), &x509.Certificate{IPAddresses: c.ips, DNSNames: c.dns}, &net.TCPAddr{IP: net.ParseIP(c.remote), Port: 1})
		if (err == nil) != c.want {
			t.Errorf("%s with %v %v: %v", c.remote, c.ips, c.dns, err)
		}
	}
	if err := o.checkSAN(t.Context(), &x509.Certificate{DNSNames: []string{"a.example"}}, &net.UnixAddr{Name: "@"}); err != nil {
		t.Errorf("a unix socket has no address: %v", err)
	}
}
