package main

import (
	"crypto/tls"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// The log shows the command line, and no password in it.
func TestShown(t *testing.T) {
	for line, want := range map[string]string{
		"etcd --name a --discovery-user=root:secret":               "etcd --name a --discovery-user=root:(not shown)",
		"etcd -discovery-user root --discovery-password secret -x": "etcd -discovery-user root --discovery-password (not shown) -x",
		"etcd --discovery-password=secret=x":                       "etcd --discovery-password=(not shown)",
		"etcd --discovery-password":                                "etcd --discovery-password",
	} {
		args := strings.Fields(line)
		before := slices.Clone(args)
		if got := strings.Join(shown(args), " "); got != want || !slices.Equal(args, before) {
			t.Errorf("%s: %s", line, got)
		}
	}
}

// Once a domain is expected, configurations for calls carry it, and those who keep connections see that they changed.
func TestNamed(t *testing.T) {
	n := &network{domain: new(atomic.Pointer[string])}
	client := named(func() (*tls.Config, uint64) { return &tls.Config{}, 7 }, n.domain)
	if c, version := client(); c.ServerName != "" || version != 7 {
		t.Errorf("before: %q, %d", c.ServerName, version)
	}
	n.expect("example.com")
	if c, version := client(); c.ServerName != "example.com" || version == 7 {
		t.Errorf("after: %q, %d", c.ServerName, version)
	}
}
