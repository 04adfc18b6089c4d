package process

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// proxies are the gRPC proxies that the clients of one cluster talk to.
type proxies struct {
	mu     sync.Mutex // guards the map
	before map[string]*Member
}

// front gives every cluster proxies where KEELSON_PROXY is set: what works at members has to work so too.
func front() *proxies {
	if os.Getenv("KEELSON_PROXY") == "" {
		return nil
	}
	return &proxies{before: map[string]*Member{}}
}

// doors are whom clients of members talk to: the members, or one proxy that knows just these. None is before members that run
// elsewhere, nor before those with TLS, which would take the proxy's certificate for each of its clients'.
func doors(members ...*Member) []*Member {
	first := members[0]
	p := first.birth.proxies
	if p == nil || first.Bare || first.Place != nil || first.config() != nil {
		return members
	}
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
	}
	slices.Sort(names) // clients name them in any order
	known := strings.Join(names, ",")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.before[known] == nil {
		p.before[known] = Proxy(first.t, members)
	}
	return []*Member{p.before[known]}
}

// Itself is the member for who asks it about itself: such clients talk to no proxy, whatever the environment asks for.
func Itself(m *Member) *Member {
	alone := *m
	alone.birth.proxies = nil
	return &alone
}

// Proxy starts a gRPC proxy before members, which its ClientAddr stands for from then on, and waits until it listens.
func Proxy(t testing.TB, members []*Member, flags ...string) *Member {
	t.Helper()
	p := member(t, members[0].Program, "proxy", t.TempDir(), nil)
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.ClientURL())
	}
	p.Bare = true
	p.Flags = append([]string{
		"grpc-proxy", "start", "--listen-addr=" + p.ClientAddr, "--advertise-client-url=" + p.ClientAddr,
		"--endpoints=" + strings.Join(endpoints, ","), "--data-dir=" + p.Dir,
	}, flags...)
	p.Start()
	Until(t, "the proxy listens", func() error {
		if !p.Running() {
			return errors.New("it has ended")
		}
		c, err := net.Dial("tcp", p.ClientAddr)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return p
}
