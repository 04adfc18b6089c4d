package e2e

import (
	"crypto/x509"
	"crypto/x509/pkix"
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

// guarded is a domain whose members ask clients for certificates, and show their own: the third one's does not carry the domain.
type guarded struct {
	*domain
	roots, others string // files of the members' authority, and of another one
	ca            *authority.Authority
	own           authority.Pair // what members let in
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{domain: newDomain(t), ca: authority.New(t, "srv")}
	g.addresses()
	g.services("etcd-server", 2380)
	dir := t.TempDir()
	g.roots, g.others = filepath.Join(dir, "ca"), filepath.Join(dir, "others")
	authority.Bundle(t, g.roots, g.ca)
	authority.Bundle(t, g.others, authority.New(t, "another"))
	g.own = g.ca.Local(dir, "own", func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"proxy"}} })
	all := g.members(t, "http", func(i int) []string {
		pair := g.ca.Local(dir, infra(i), func(c *x509.Certificate) {
			c.IPAddresses = []net.IP{net.ParseIP(g.hosts[0].Addr)} // the gateway's, whose clients look for it
			if c.DNSNames = []string{infra(i)}; i < 2 {
				c.DNSNames = append(c.DNSNames, "example.com")
			}
		})
		return []string{
			"--cert-file=" + pair.CertFile, "--key-file=" + pair.KeyFile, "--trusted-ca-file=" + g.roots, "--client-cert-auth",
			fmt.Sprintf("--listen-client-urls=http://%s:2379,https://%[1]s:2378", g.hosts[i].Addr),
		}
	})
	for _, m := range all {
		m.Start()
	}
	together(t, all)
	return g
}

// front makes a proxy or a gateway on the first host, which knows the domain alone.
func (g *guarded) front(t *testing.T, program string, flags ...string) *process.Member {
	t.Helper()
	f := process.Single(t, keelson, "")
	f.Bare, f.Place, f.ClientAddr = true, &g.hosts[0].Place, g.hosts[0].Addr+":23790"
	f.Flags = append([]string{program, "start", "--discovery-srv=example.com", "--listen-addr=" + f.ClientAddr}, flags...)
	return f
}

// stopped stops a front and looks which endpoints it took: the third host's only where they are asked for.
func (g *guarded) stopped(t *testing.T, f *process.Member, endpoints ...string) {
	t.Helper()
	f.Stop()
	_, line, _ := strings.Cut(f.Log(), "ready to proxy client requests")
	line, _, _ = strings.Cut(line, "\n")
	for _, e := range endpoints {
		if !strings.Contains(line, `"`+e+`"`) {
			t.Errorf("no %s in %s", e, line)
		}
	}
	if strings.Contains(line, infra(2)) != strings.Contains(strings.Join(endpoints, " "), infra(2)) {
		t.Errorf("%s", line)
	}
}

// A proxy and a gateway take, of what a domain names for clients, those that prove to be the domain's, or, to authorities that
// were named, the host that the record names; they end where nobody proves it, unless they are told not to ask.
func TestDiscoverySRVFront(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	refused := func(authorities string, want ...string) {
		t.Helper()
		for program, flag := range map[string]string{"gateway": "--trusted-ca-file=", "grpc-proxy": "--cacert="} {
			log := g.front(t, program, flag+authorities).Refused()
			for _, text := range want {
				if !strings.Contains(log, text) {
					t.Errorf("%s: no %q in %s", program, text, log)
				}
			}
		}
	}
	refused(g.roots, "look up _etcd-client-ssl._tcp.example.com")
	g.services("etcd-client", 2379)
	refused(g.roots, "http://"+infra(0)+":2379 is not trusted", "without TLS", "--insecure-discovery takes them as they are")
	g.services("etcd-client-ssl", 2378)
	refused(g.others, "https://"+infra(0)+":2378 is not trusted", "unknown authority")

	shown := []string{"--cert=" + g.own.CertFile, "--key=" + g.own.KeyFile}
	proxy := g.front(t, "grpc-proxy", append([]string{"--cacert=" + g.roots}, shown...)...).Serve()
	proxy.Ctl("put", "a", "b")
	g.stopped(t, proxy, "https://"+infra(0)+":2378", "https://"+infra(1)+":2378", "https://"+infra(2)+":2378")
	system := g.front(t, "grpc-proxy", shown...) // by the system's authorities, for the check and for calls
	system.Env = []string{"SSL_CERT_FILE=" + g.roots}
	if out := system.Serve().Ctl("get", "a", "--print-value-only"); out != "b\n" {
		t.Errorf("a proxy by the system's authorities reads %q", out)
	}
	g.stopped(t, system, "https://"+infra(0)+":2378", "https://"+infra(1)+":2378")
	gateway := g.front(t, "gateway", "--trusted-ca-file="+g.roots)
	gateway.TLS = authority.Client(&g.own, g.ca)
	if out := gateway.Serve().Ctl(append(shown, "--cacert="+g.roots, "get", "a", "--print-value-only")...); out != "b\n" {
		t.Errorf("a client of the gateway reads %q", out)
	}
	g.stopped(t, gateway, infra(0)+":2378", infra(1)+":2378", infra(2)+":2378")
	g.stopped(t, g.front(t, "gateway", "--insecure-discovery").Serve(), infra(2)+":2378", infra(2)+":2379")
}
