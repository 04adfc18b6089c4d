package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
)

// names is a DNS server in memory: "service domain" to records, and hosts to addresses.
type names struct {
	mu    sync.Mutex
	srv   map[string][]*net.SRV
	hosts map[string]string
	// asked counts look-ups of records, failing those that end in an error that is no answer.
	asked, failing int
}

func (n *names) LookupSRV(_ context.Context, service, _, domain string) (string, []*net.SRV, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if n.failing > 0 {
		n.failing--
		return "", nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	}
	records, ok := n.srv[service+" "+domain]
	if !ok {
		return "", nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	return "", records, nil
}

func (n *names) LookupHost(_ context.Context, host string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if net.ParseIP(host) != nil {
		return []string{host}, nil
	}
	if list, ok := n.hosts[host]; ok {
		return strings.Split(list, " "), nil
	}
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

// infra gives three hosts with addresses, and the records of them.
func infra() (*names, []*net.SRV) {
	n := &names{srv: map[string][]*net.SRV{}, hosts: map[string]string{}}
	var records []*net.SRV
	for i := range 3 {
		host := fmt.Sprintf("infra%d.example.com", i)
		n.hosts[host] = fmt.Sprintf("10.0.1.1%d", i)
		records = append(records, &net.SRV{Target: host + ".", Port: 2380})
	}
	return n, records
}

func self(t *testing.T, urls ...string) Self {
	t.Helper()
	u, err := types.NewURLs(urls)
	if err != nil {
		t.Fatal(err)
	}
	return Self{Name: "me", URLs: u}
}

func members(t *testing.T, n *names, service string, s Self) (types.URLsMap, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	return Members(ctx, Options{Domain: "example.com", Service: service, Hosts: n, Clock: clock.System, Logger: zap.NewNop()}, s)
}

func TestMembers(t *testing.T) {
	n, records := infra()
	n.srv["etcd-server example.com"] = records
	n.srv["etcd-server-ssl-blue example.com"] = records
	n.srv["etcd-server-ssl-both example.com"] = records[:2]
	n.srv["etcd-server-both example.com"] = records
	n.hosts["infra1.example.com"] = "10.9.9.9 10.0.1.11"
	for _, c := range []struct{ service, url, want string }{
		{"", "http://infra1.example.com:2380", "infra0.example.com:2380=http://infra0.example.com:2380,infra2.example.com:2380=http://infra2.example.com:2380,me=http://infra1.example.com:2380"},
		{"", "http://10.0.1.11:2380", "infra0.example.com:2380=http://infra0.example.com:2380,infra2.example.com:2380=http://infra2.example.com:2380,me=http://infra1.example.com:2380"},
		{"blue", "https://10.0.1.10:2380", "infra1.example.com:2380=https://infra1.example.com:2380,infra2.example.com:2380=https://infra2.example.com:2380,me=https://infra0.example.com:2380"},
		// What is named below both services speaks TLS.
		{"both", "https://10.0.1.10:2380", "infra1.example.com:2380=https://infra1.example.com:2380,infra2.example.com:2380=http://infra2.example.com:2380,me=https://infra0.example.com:2380"},
		{"both", "http://10.0.1.12:2380", "infra0.example.com:2380=https://infra0.example.com:2380,infra1.example.com:2380=https://infra1.example.com:2380,me=http://infra2.example.com:2380"},
	} {
		synctest.Test(t, func(t *testing.T) {
			if found, err := members(t, n, c.service, self(t, c.url)); err != nil || found.String() != c.want {
				t.Errorf("%q %s: %v, %v", c.service, c.url, found, err)
			}
		})
	}
}

// Records, addresses and this member's own place come one after the other; nobody founds a cluster before all are there.
func TestMembersAppear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, records := infra()
		n.failing = 3
		delete(n.hosts, "infra2.example.com")
		done := make(chan struct{})
		go func() {
			defer close(done)
			found, err := members(t, n, "", self(t, "http://10.0.1.11:2380"))
			if err != nil || len(found) != 3 || len(found["me"]) != 1 {
				t.Errorf("%v, %v", found, err)
			}
		}()
		change := func(do func()) {
			time.Sleep(10 * time.Minute) // in the bubble's time
			select {
			case <-done:
				t.Error("it did not wait")
			default:
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			do()
		}
		change(func() { n.srv["etcd-server example.com"] = []*net.SRV{records[0]} })
		change(func() { n.srv["etcd-server example.com"] = records })
		change(func() { n.hosts["infra2.example.com"] = "10.0.1.12" })
		<-done
		if n.asked > 200 {
			t.Errorf("asked %d times in half an hour", n.asked)
		}
	})
}

func TestMembersRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, records := infra()
		n.srv["etcd-server example.com"] = records
		if found, err := members(t, n, "", self(t, "https://10.0.1.11:2380")); !errors.Is(err, ErrScheme) {
			t.Errorf("%v, %v", found, err)
		}
		if found, err := members(t, n, "", self(t, "http://10.0.1.77:2380")); !errors.Is(err, ErrNotListed) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", found, err)
		}
		if found, err := members(t, n, "", self(t, "http://10.0.1.11:2380", "http://10.0.1.11:2381")); !errors.Is(err, ErrNotListed) {
			t.Errorf("%v, %v", found, err)
		}
		if found, err := members(t, n, "none", self(t, "http://10.0.1.11:2380")); err == nil || !strings.Contains(err.Error(), "_etcd-server-ssl-none._tcp.example.com") {
			t.Errorf("%v, %v", found, err)
		}
		for i := range membersMax {
			n.srv["etcd-server example.com"] = append(n.srv["etcd-server example.com"], &net.SRV{Target: fmt.Sprintf("x%d.", i), Port: 1})
		}
		if found, err := members(t, n, "", self(t, "http://10.0.1.11:2380")); !errors.Is(err, ErrTooMany) {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// Whatever a DNS server answers, what is found is names with URLs, or an error.
func FuzzMembers(f *testing.F) {
	f.Add("infra0.example.com.", "10.0.1.10", uint16(2380))
	f.Add("", "::1%eth0", uint16(0))
	f.Add("a b]:\x00", "[", uint16(1))
	f.Fuzz(func(t *testing.T, target, address string, port uint16) {
		n, records := infra()
		n.srv["etcd-server example.com"] = append(records, &net.SRV{Target: target, Port: port})
		n.hosts[strings.TrimSuffix(target, ".")] = address
		found, err := look(t.Context(), Options{Domain: "example.com", Hosts: n}, self(t, "http://10.0.1.11:2380"))
		if err == nil && (len(found["me"]) == 0 || len(found) > 4) {
			t.Errorf("%v", found)
		}
	})
}
