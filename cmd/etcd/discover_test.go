package main

import (
	"crypto/tls"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/config"
)

// The log shows the command line, and no password in it.
func TestShown(t *testing.T) {
	for line, want := range map[string]string{
		"etcd --name a --discovery-user=root:secret":                "etcd --name a --discovery-user=root:(not shown)",
		"etcd -discovery-user root --discovery-password secret -x":  "etcd -discovery-user root --discovery-password (not shown) -x",
		"etcd --discovery-password=secret=x":                        "etcd --discovery-password=(not shown)",
		"etcd --discovery=http://u:secret@h/t --discovery-srv x":    "etcd --discovery=http://u:xxxxx@h/t --discovery-srv x",
		"etcd -discovery http://h/t --discovery-proxy u:secret@h:1": "etcd -discovery http://h/t --discovery-proxy u:xxxxx@h:1",
		"etcd --discovery-password":                                 "etcd --discovery-password",
	} {
		args := strings.Fields(line)
		before := slices.Clone(args)
		if got := strings.Join(shown(args), " "); got != want || !slices.Equal(args, before) {
			t.Errorf("%s: %s", line, got)
		}
	}
}

// A token's URL is the cluster's token too, which the log names: without the password.
func TestPrepareShowsNoPassword(t *testing.T) {
	for line, want := range map[string]string{
		"--discovery=https://user:secret@host/tok": "https://user:xxxxx@host/tok",
		"--initial-cluster-token=a:b@c":            "a:b@c",
	} {
		cfg, _, err := config.Parse([]string{line}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.DebugLevel)
		prepare(cfg, zap.New(core))
		all := logs.FilterMessage("starting an etcd server").All()
		if len(all) != 1 || all[0].ContextMap()["initial-cluster-token"] != want || strings.Contains(fmt.Sprint(logs.All()), "secret") {
			t.Errorf("%s: %v", line, logs.All())
		}
	}
}

// What a configuration says of the cluster that keeps a token reaches the client that calls it.
func TestDiscoverySpec(t *testing.T) {
	d := config.DiscoveryCluster{
		Endpoints: []string{"a:1"}, DialTimeout: 1, RequestTimeout: 2, KeepAliveTime: 3, KeepAliveTimeout: 4, SendBytes: 5, ReceiveBytes: 6,
		DiscoveryTLS: config.DiscoveryTLS{CertFile: "cert", KeyFile: "key", CAFile: "ca", ServerName: "name", Plain: true, SkipVerify: true},
		User:         "u", Password: "p", Bearer: "t",
	}
	want := clientv3.ConfigSpec{
		Endpoints: []string{"a:1"}, DialTimeout: 1, RequestTimeout: 2, KeepAliveTime: 3, KeepAliveTimeout: 4, MaxCallSendMsgSize: 5, MaxCallRecvMsgSize: 6,
		Secure: &clientv3.SecureConfig{Cert: "cert", Key: "key", Cacert: "ca", ServerName: "name", InsecureTransport: true, InsecureSkipVerify: true},
		Auth:   &clientv3.AuthConfig{Username: "u", Password: "p", Token: "t"},
	}
	if got := discoverySpec(&d); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, not %+v", got, want)
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
