package e2e

import (
	"crypto/x509"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"keelson/test/authority"
	"keelson/test/process"
)

// domain is three hosts, infra0 to infra2.example.com, and the DNS server that they ask.
type domain struct {
	hosts []*process.Host
	zone  *process.Zone
}

func newDomain(t *testing.T) *domain {
	t.Helper()
	plainOnly(t, "members that find each other are given no users")
	hosts := process.Hosts(t, 4)
	d := &domain{hosts[:3], process.ServeDNS(t, hosts[3])}
	d.zone.Resolve(d.hosts...)
	return d
}

func infra(i int) string { return fmt.Sprintf("infra%d.example.com", i) }

// addresses tells the hosts' addresses.
func (d *domain) addresses() {
	for i, h := range d.hosts {
		d.zone.Add(infra(i) + ". A " + h.Addr)
	}
}

// services tells which hosts serve something at a port.
func (d *domain) services(service string, port int) {
	for i := range d.hosts {
		d.zone.Add(fmt.Sprintf("_%s._tcp.example.com. SRV 0 0 %d %s.", service, port, infra(i)))
	}
}

// members makes one a host, which know their own names and the domain alone.
func (d *domain) members(t *testing.T, scheme string, flags func(i int) []string) []*process.Member {
	t.Helper()
	all := strangers(t, len(d.hosts), "--discovery-srv=example.com", "--initial-cluster-token=etcd-cluster-1", "--initial-cluster-state=new")
	for i, m := range all {
		m.Name, m.Place = fmt.Sprint("infra", i), &d.hosts[i].Place
		m.ClientAddr, m.PeerAddr = d.hosts[i].Addr+":2379", d.hosts[i].Addr+":2380"
		m.Flags = append(m.Flags, "--initial-advertise-peer-urls="+scheme+"://"+infra(i)+":2380", "--advertise-client-urls=http://"+infra(i)+":2379",
			"--listen-peer-urls="+scheme+"://"+m.PeerAddr)
		m.Flags = append(m.Flags, flags(i)...)
	}
	return all
}

// Members that are there before their records wait for these, and become one cluster; clients find it by the domain too.
func TestDiscoverySRV(t *testing.T) {
	t.Parallel()
	d := newDomain(t)
	all := d.members(t, "http", func(int) []string { return nil })
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		process.Until(t, m.Name+" waits for records", func() error {
			if log := m.Log(); !strings.Contains(log, "failed to resolve during SRV discovery") {
				return errUnlike(log)
			}
			return nil
		})
	}
	d.addresses()
	d.services("etcd-server", 2380)
	together(t, all)
	for i, m := range all {
		if list := m.Ctl("member", "list"); !strings.Contains(list, "http://"+infra(i)+":2380") || !strings.Contains(list, ", "+m.Name+", ") {
			t.Errorf("%s is not in its own list: %s", m.Name, list)
		}
	}
	if o := all[0].TryCtl("-d", "example.com", "put", "a", "b"); o.Status == 0 {
		t.Errorf("a client without records put something: %+v", o)
	}
	d.services("etcd-client", 2379)
	all[0].Ctl("-d", "example.com", "put", "a", "b")
	if out := all[1].Ctl("--discovery-srv=example.com", "get", "a", "--print-value-only"); out != "b\n" {
		t.Errorf("a client of the domain reads %q", out)
	}
	if o := all[0].TryCtl("-d", "example.com", "--insecure-discovery=false", "get", "a"); o.Status != 1 || !strings.Contains(o.Stderr, "without TLS") {
		t.Errorf("endpoints without TLS were taken: %+v", o)
	}
	all[2].Kill()
	p := process.Single(t, keelson, "")
	p.Bare, p.Place, p.ClientAddr = true, &d.hosts[0].Place, d.hosts[0].Addr+":23790"
	p.Flags = []string{"grpc-proxy", "start", "--discovery-srv=example.com", "--insecure-discovery", "--listen-addr=" + p.ClientAddr}
	p.Serve()
	if out := p.Ctl("get", "a", "--print-value-only"); out != "b\n" {
		t.Errorf("a proxy before the domain reads %q", out)
	}
	all[2].Serve()
}

// Members found below the service with TLS must carry the domain in their certificates. Who does not is refused, by a line that
// says who came and what for.
func TestDiscoverySRVSecure(t *testing.T) {
	t.Parallel()
	d := newDomain(t)
	d.addresses()
	d.services("etcd-server-ssl-blue", 2380)
	dir, ca := t.TempDir(), authority.New(t, "srv")
	roots := filepath.Join(dir, "ca")
	authority.Bundle(t, roots, ca)
	form := func(name string, domains ...string) []*process.Member {
		return d.members(t, "https", func(i int) []string {
			pair := ca.Local(dir, fmt.Sprint(name, i), func(c *x509.Certificate) {
				c.DNSNames, c.IPAddresses = append([]string{infra(i)}, domains...), []net.IP{net.ParseIP(d.hosts[i].Addr)}
			})
			return []string{
				"--discovery-srv-name=blue", "--peer-cert-file=" + pair.CertFile, "--peer-key-file=" + pair.KeyFile,
				"--peer-trusted-ca-file=" + roots, "--peer-client-cert-auth", "--cert-file=" + pair.CertFile, "--key-file=" + pair.KeyFile,
				fmt.Sprintf("--listen-client-urls=http://%s:2379,https://%[1]s:2378", d.hosts[i].Addr),
			}
		})
	}
	unknown := form("without")
	for _, m := range unknown {
		m.Start()
	}
	process.Until(t, "a certificate without the domain is refused", func() error {
		for _, m := range unknown {
			for _, line := range strings.Split(m.Log(), "\n") {
				if strings.Contains(line, "rejected connection on peer endpoint") && strings.Contains(line, `"server-name":"example.com"`) &&
					strings.Contains(line, `"remote-addr":"`) && strings.Contains(line, "bad certificate") {
					return nil
				}
			}
		}
		return errUnlike(unknown[0].Log())
	})
	for _, m := range unknown {
		m.Kill()
	}
	all := form("with", "example.com")
	for _, m := range all {
		m.Start()
	}
	together(t, all)
	d.services("etcd-client-ssl-blue", 2378)
	client := []string{"-d", "example.com", "--discovery-srv-name=blue", "--insecure-discovery=false", "--cacert=" + roots}
	all[0].Ctl(append(client, "put", "a", "b")...)
	others := filepath.Join(dir, "others")
	authority.Bundle(t, others, authority.New(t, "another"))
	client[len(client)-1] = "--cacert=" + others
	if o := all[0].TryCtl(append(client, "get", "a")...); o.Status == 0 {
		t.Errorf("endpoints that another authority vouches for were taken: %+v", o)
	}
}
