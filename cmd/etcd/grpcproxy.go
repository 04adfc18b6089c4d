package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/discovery/dnssrv"
	"keelson/internal/kit/logging"
	"keelson/internal/kit/tlsconf"
	"keelson/internal/proxy/grpcproxy"
)

const proxyHelp = `Serves the API of a cluster to many clients, at the price of few for its members:

  etcd grpc-proxy start --endpoints=10.0.0.1,10.0.0.2,10.0.0.3 --listen-addr=127.0.0.1:23790
  etcdctl --endpoints=127.0.0.1:23790 get a

Watchers of the same keys become one watcher at the members, and the keep-alives of all leases one stream. Answers to
serializable ranges are remembered; a linearizable one always asks the members. An endpoint that fails is passed over while
another one lives. An endpoint without a port means port 2379.

Proxies with the same --resolver-prefix show each other in the member list, so that clients that follow it (Sync) find them
all; one without shows itself. With --namespace, all keys of the clients lie below it in the cluster, and they do not see it.

Tokens of users pass through, and no user is shown what another one was. The proxy's own certificate, --cert, must have no
common name: where the members take names for users, every client of the proxy would be that user.

  /health         whether the cluster answers
  /proxy/health   whether it does through the proxy itself
  /metrics        those of a member, and the proxy's etcd_grpc_proxy_*
  /proxy/metrics  those of this process`

func grpcProxyCommand() *cobra.Command {
	var f proxyFlags
	start := &cobra.Command{
		Use: "start", Short: "Serves a cluster's API to many clients at the price of few", Long: proxyHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runGRPCProxy(cmd.Context(), &f) },
	}
	f.bind(start.Flags())
	return groupOf("grpc-proxy", "A gRPC proxy in front of a cluster", start)
}

// runGRPCProxy serves until a signal ends it.
func runGRPCProxy(ctx context.Context, f *proxyFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	level := ""
	if f.debug {
		level = "debug"
	}
	log, done, err := logging.New(logging.Options{Level: level})
	if err != nil {
		return err
	}
	defer func() { _ = done() }() // there is nowhere left to tell
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	secrets, err := f.secrets(log)
	if err != nil {
		return err
	}
	ports, err := openPair(ctx, f.listen, f.metrics, secrets)
	if err != nil {
		return err
	}
	defer ports.close()
	u, outgoing, err := f.client(ctx, log)
	if err != nil {
		return err
	}
	defer func() { _ = u.Close() }() // it only tells that it was closed
	if err := apart(ctx, "proxy", ports.client.Addr(), hostsOf(u.Endpoints())); err != nil {
		return err
	}
	early := context.AfterFunc(ctx, func() { _ = u.Close() }) // a start with leasing waits for the members
	s, err := grpcproxy.New(context.WithoutCancel(ctx), u, f.options(log, ports.secrets != nil, outgoing))
	if err != nil {
		return err
	}
	if !early() {
		s.Close(ctx) // nobody is served yet: there is nothing to wait for
		return errEarlySignal
	}
	log.Info("ready to proxy client requests", zap.Stringer("address", ports.client.Addr()), zap.Strings("endpoints", u.Endpoints()))
	return serveProxy(ctx, ports, s, log)
}

// serveProxy serves until ctx ends or a port fails, and joins.
func serveProxy(ctx context.Context, p *portPair, s *grpcproxy.Server, log *zap.Logger) error {
	client := p.shaken(p.client, p.secrets != nil, "proxy", log, http2, http1)
	p.keep(p.client.Addr(), func() error { return s.Serve(client) })
	if p.metrics != nil {
		metrics := p.shaken(p.metrics, p.metricsTLS, "proxy", log, http2, http1)
		p.keep(p.metrics.Addr(), func() error { return s.ServeHTTP(metrics) })
	}
	notify(daemon.SdNotifyReady, log)
	var err error
	select {
	case <-ctx.Done():
	case err = <-p.failed:
	}
	notify(daemon.SdNotifyStopping, log)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	for _, l := range p.secured {
		_ = l.Close()
	}
	s.Close(drain)
	p.close()
	p.running.Wait()
	return err
}

// client makes the client of the members, and what plain HTTP calls of them use. It connects when it is first used, so that
// a proxy may start before its cluster.
func (f *proxyFlags) client(ctx context.Context, log *zap.Logger) (*clientv3.Client, *tls.Config, error) {
	outgoing, err := f.outgoing(log)
	if err != nil {
		return nil, nil, err
	}
	members, err := f.members(ctx, outgoing)
	if err != nil {
		return nil, nil, err
	}
	if outgoing == nil && f.skipVerify && strings.Contains(strings.Join(members, ","), "https://") {
		outgoing = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // it is what the flag says
	}
	quiet := zap.NewNop() // what fails is told to the caller
	if f.debug {
		quiet = log
	}
	u, err := clientv3.New(clientv3.Config{
		Endpoints: members, AutoSyncInterval: f.autoSync, DialTimeout: proxyDialTime, DialKeepAliveTime: f.dialKeepAlive,
		DialKeepAliveTimeout: f.dialKeepAliveTimeout, PermitWithoutStream: f.withoutStream, TLS: outgoing,
		DialOptions: grpcproxy.DialOptions(f.maxSend, f.maxRecv), Logger: quiet,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("--endpoints=%s: %w", strings.Join(members, ","), err)
	}
	return u, outgoing, nil
}

// outgoing is the TLS of calls to members; nil where no flag asks for it.
func (f *proxyFlags) outgoing(log *zap.Logger) (*tls.Config, error) {
	if f.cacert == "" && f.cert == "" {
		return nil, nil
	}
	m, err := tlsconf.Open(tlsconf.Options{CertFile: f.cert, KeyFile: f.key, CAFile: f.cacert, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--cacert, --cert and --key: %w", err)
	}
	for _, x := range m.Expiries() {
		if name := x.CommonName; x.Use == "server" && name != "" {
			return nil, fmt.Errorf("--cert=%s: its common name is %q: members that take common names for users would take every client of the proxy for that one; use a certificate without", f.cert, name)
		}
	}
	c, _ := m.Client()
	c.InsecureSkipVerify = f.skipVerify
	return c, nil
}

// members are the endpoints to call, each with its scheme.
func (f *proxyFlags) members(ctx context.Context, outgoing *tls.Config) ([]string, error) {
	if f.domain != "" {
		return f.lookUp(ctx, outgoing)
	}
	var all []string
	for _, text := range f.endpoints {
		e, err := proxyEndpoint(text, outgoing != nil)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// proxyEndpoint reads one of --endpoints. One without a port is at the default one, one without a scheme is https where the
// proxy has something to check a member's certificate with, or to show to it.
func proxyEndpoint(text string, secure bool) (string, error) {
	text = strings.TrimSpace(text)
	scheme, rest, given := strings.Cut(text, "://")
	if !given {
		scheme, rest = "http", text
		if secure {
			scheme = "https"
		}
	}
	switch scheme {
	case "unix", "unixs":
		return text, nil
	case "http", "https":
		address, err := gatewayAddress(rest)
		return scheme + "://" + address, err
	}
	return "", fmt.Errorf("--endpoints: %q: write HOST, HOST:PORT, http://HOST:PORT or https://HOST:PORT", text)
}

// hostsOf strips the schemes off endpoints.
func hostsOf(endpoints []string) []string {
	hosts := make([]string, 0, len(endpoints))
	for _, e := range endpoints {
		_, host, _ := strings.Cut(e, "://")
		hosts = append(hosts, host)
	}
	return hosts
}

// lookUp finds the endpoints in DNS, those that prove that they are the domain's unless --insecure-discovery is set: whoever
// can forge an answer of DNS would else get all traffic.
func (f *proxyFlags) lookUp(ctx context.Context, outgoing *tls.Config) ([]string, error) {
	found, err := dnssrv.Clients(ctx, net.DefaultResolver, f.domain, f.service)
	if err != nil {
		return nil, fmt.Errorf("--discovery-srv=%s: %w", f.domain, err)
	}
	if !f.insecure {
		check := &tls.Config{ServerName: f.domain}
		if outgoing != nil {
			check = outgoing.Clone()
			check.ServerName, check.InsecureSkipVerify = f.domain, false
		}
		if found, err = dnssrv.Trusted(ctx, found, check); err != nil {
			return nil, fmt.Errorf("--discovery-srv=%s: %w; --insecure-discovery takes them as they are", f.domain, err)
		}
	}
	all := make([]string, 0, len(found))
	for _, x := range found {
		all = append(all, x.URL())
	}
	if len(all) == 0 {
		return nil, errors.New("no endpoints")
	}
	return all, nil
}

// secrets are what the proxy's ports do TLS with; nil for plain text.
func (f *proxyFlags) secrets(log *zap.Logger) (*tlsconf.Material, error) {
	o := tlsconf.Options{CertFile: f.certFile, KeyFile: f.keyFile, CAFile: f.trustedCA, CRLFile: f.crl, Limits: f.limits, Logger: log}
	if f.autoTLS {
		dir := f.certificates()
		cert, key, made, err := tlsconf.SelfSign(dir, []string{f.listen}, f.validity, time.Now())
		if err != nil {
			return nil, fmt.Errorf("--auto-tls: %w", err)
		}
		if made {
			log.Warn("automatically generate certificates", zap.String("path", dir), zap.Uint("years", f.validity))
		}
		o.CertFile, o.KeyFile = cert, key
	}
	if o.CertFile == "" {
		return nil, nil
	}
	m, err := tlsconf.Open(o)
	if err != nil {
		return nil, fmt.Errorf("--cert-file, --key-file, --trusted-ca-file and --client-crl-file: %w", err)
	}
	return m, nil
}

// fetcher makes what asks members for metrics.
func fetcher(outgoing *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: outgoing, MaxIdleConnsPerHost: 2, IdleConnTimeout: idleTime, ForceAttemptHTTP2: true}}
}
