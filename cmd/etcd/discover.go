package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/discovery/dnssrv"
	discoveryv2 "keelson/internal/discovery/v2"
	discoveryv3 "keelson/internal/discovery/v3"
	"keelson/internal/kit/clock"
)

// errJoining is returned for a member that is to join a running cluster and to found one.
var errJoining = errors.New("discovery URL should not be set when joining existing initial cluster: a token is for the founders; " +
	"give --initial-cluster with all members, this one too, in place of it")

// discover is how a member finds the founders of its cluster; nil where the configuration names them. Whom DNS names must show
// the domain in its certificate for as long as this process lives.
func discover(cfg *config.Config, log *zap.Logger, n *network) func(ctx context.Context, id uint64) (types.URLsMap, error) {
	d := &cfg.Cluster.Discovery
	name, urls := cfg.Member.Name, cfg.Cluster.AdvertisePeer
	switch {
	case d.ByToken() && cfg.Cluster.Existing:
		return func(context.Context, uint64) (types.URLsMap, error) { return nil, errJoining }
	case d.URL != nil:
		return func(ctx context.Context, id uint64) (types.URLsMap, error) {
			return discoveryv2.Find(ctx, discoveryv2.Options{URL: d.URL, Proxy: d.Proxy, Clock: clock.System, Logger: log}, id, name, urls)
		}
	case d.Cluster.Token != "":
		o := discoveryv3.Options{
			Token: d.Cluster.Token, RequestTime: d.Cluster.RequestTimeout, Clock: clock.System, Logger: log,
			Dial: discoveryv3.Dialer(discoverySpec(&d.Cluster), log),
		}
		return func(ctx context.Context, id uint64) (types.URLsMap, error) {
			return discoveryv3.Find(ctx, o, id, name, urls)
		}
	case d.Domain != "":
		o := dnssrv.Options{Domain: d.Domain, Service: d.Service, Hosts: net.DefaultResolver, Clock: clock.System, Logger: log}
		return func(ctx context.Context, _ uint64) (types.URLsMap, error) {
			n.expect(d.Domain)
			return dnssrv.Members(ctx, o, dnssrv.Self{Name: name, URLs: urls})
		}
	default:
		return nil
	}
}

func discoverySpec(d *config.DiscoveryCluster) clientv3.ConfigSpec {
	spec := clientv3.ConfigSpec{
		Endpoints: d.Endpoints, DialTimeout: d.DialTimeout, RequestTimeout: d.RequestTimeout, KeepAliveTime: d.KeepAliveTime, KeepAliveTimeout: d.KeepAliveTimeout,
		MaxCallSendMsgSize: d.SendBytes, MaxCallRecvMsgSize: d.ReceiveBytes,
		Secure: &clientv3.SecureConfig{
			Cert: d.CertFile, Key: d.KeyFile, Cacert: d.CAFile, ServerName: d.ServerName, InsecureTransport: d.Plain, InsecureSkipVerify: d.SkipVerify,
		},
	}
	if d.User != "" || d.Bearer != "" {
		spec.Auth = &clientv3.AuthConfig{Username: d.User, Password: d.Password, Token: d.Bearer}
	}
	return spec
}

// shown is a command line as the log may show it: without the passwords of discovery's flags.
func shown(args []string) []string {
	out := slices.Clone(args)
	for i := range out {
		flag, value, joined := strings.Cut(out[i], "=")
		name := strings.TrimPrefix(strings.TrimPrefix(flag, "-"), "-")
		switch {
		case name == flag:
		case joined:
			out[i] = flag + "=" + shownValue(name, value)
		case i+1 < len(out):
			out[i+1] = shownValue(name, out[i+1])
		}
	}
	return out
}

func shownValue(flag, value string) string {
	const hidden = "(not shown)"
	switch flag {
	case "discovery", "discovery-proxy":
		return config.Redacted(value)
	case "discovery-password":
		return hidden
	case "discovery-user":
		if user, _, ok := strings.Cut(value, ":"); ok {
			return user + ":" + hidden
		}
	}
	return value
}
