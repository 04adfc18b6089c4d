package process

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Zone is a DNS server on a host of its own, which alone answers those hosts that look names up by it.
type Zone struct {
	t    testing.TB
	host *Host

	mu      sync.Mutex
	records map[string][]dns.RR // by name, in small letters, with the dot
}

// ServeDNS runs a DNS server without a record on a host until the test ends.
func ServeDNS(t testing.TB, h *Host) *Zone {
	t.Helper()
	z := &Zone{t: t, host: h, records: map[string][]dns.RR{}}
	var socket net.PacketConn
	err := h.inside(func() (err error) {
		socket, err = net.ListenPacket("udp", h.Addr+":53") //nolint:noctx // it is opened at once
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: socket, Handler: z}
	served := make(chan error, 1)
	go func() { served <- s.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = socket.Close()
		<-served
	})
	return z
}

// Add adds records as a zone file has them, such as "infra0.example.com. A 10.0.0.1".
func (z *Zone) Add(lines ...string) {
	z.t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			z.t.Fatal(err)
		}
		name := strings.ToLower(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
	}
}

// ServeDNS answers a question.
func (z *Zone) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	for _, q := range r.Question {
		all, known := z.records[strings.ToLower(q.Name)]
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		for _, rr := range all {
			if rr.Header().Rrtype == q.Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	_ = w.WriteMsg(m) // who asked asks again
}

// Resolve lets what runs on hosts look names up in the zone, by a resolv.conf of their own.
func (z *Zone) Resolve(hosts ...*Host) {
	z.t.Helper()
	const resolvConf = "/etc/resolv.conf"
	if _, err := os.Stat(resolvConf); err != nil {
		z.t.Skipf("nothing to put another one in front of: %v", err)
	}
	for _, tool := range []string{"unshare", "mount", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			z.t.Skipf("a resolv.conf of one's own needs %s: %v", tool, err)
		}
	}
	file := filepath.Join(z.t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "nameserver %s\noptions timeout:2 attempts:10\n", z.host.Addr), 0o644); err != nil {
		z.t.Fatal(err)
	}
	script := `mount --bind "$1" ` + resolvConf + ` && shift && exec "$@"`
	for _, h := range hosts {
		h.Enter = append(slices.Clone(h.Enter), "unshare", "--mount", "sh", "-c", script, "sh", file)
	}
}
