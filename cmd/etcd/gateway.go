package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"keelson/internal/discovery/dnssrv"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/logging"
	"keelson/internal/proxy/tcpgateway"
)

const gatewayHelp = `Passes TCP connections on to the members of a cluster, so that the clients on a machine need one address that never changes:

  etcd gateway start --endpoints=10.0.0.1,10.0.0.2,10.0.0.3
  etcdctl --endpoints=127.0.0.1:23790 get a

Connections take turns over the endpoints that live. One that can't be reached is passed over, and tried again each
--retry-delay; clients notice nothing. The gateway ends no TLS: clients that need it speak it with the member, through the
gateway, and the members' certificates have to name the gateway's host. An endpoint without a port means port 2379.

With --discovery-srv the endpoints are those of the domain's SRV records (_etcd-client-ssl._tcp and _etcd-client._tcp), with
their priorities and weights, looked up again each --retry-delay.`

// lookUpTime bounds looking endpoints' addresses up at the start.
const lookUpTime = 5 * time.Second

// portDefault is the client port of an endpoint that names none.
const portDefault = "2379"

// gatewayFlags are the flags of gateway start.
type gatewayFlags struct {
	endpoints               []string
	listen                  string
	retryDelay              time.Duration
	domain, service, caFile string
	insecure                bool
}

func gatewayCommand() *cobra.Command {
	var f gatewayFlags
	start := &cobra.Command{
		Use: "start", Short: "Passes connections on to the members of a cluster", Long: gatewayHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runGateway(cmd.Context(), &f) },
	}
	fs := start.Flags()
	fs.StringSliceVar(&f.endpoints, "endpoints", []string{"127.0.0.1:" + portDefault}, "endpoints to pass connections on to, separated by commas")
	fs.StringVar(&f.listen, "listen-addr", "127.0.0.1:23790", "address that takes connections")
	fs.DurationVar(&f.retryDelay, "retry-delay", time.Minute, "how long an endpoint that failed is left alone, such as 30s")
	fs.StringVar(&f.domain, "discovery-srv", "", "DNS domain whose SRV records name the endpoints, in place of --endpoints")
	fs.StringVar(&f.service, "discovery-srv-name", "", "name behind the service in those records, where a domain has several clusters")
	fs.BoolVar(&f.insecure, "insecure-discovery", false, "take endpoints from SRV records as they are, also those without TLS")
	fs.StringVar(&f.caFile, "trusted-ca-file", "", "authorities that certificates of endpoints from SRV records must be from (empty: the system's)")
	return groupOf("gateway", "A TCP proxy in front of a cluster", start)
}

// runGateway passes connections on until a signal ends it.
func runGateway(ctx context.Context, f *gatewayFlags) error {
	o, err := f.options(ctx)
	if err != nil {
		return err
	}
	log, done, err := logging.New(logging.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = done() }() // there is nowhere left to tell
	o.Logger = log
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listen on --listen-addr=%s: %w", f.listen, err)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := apart(ctx, "gateway", l.Addr(), addresses(o.Endpoints)); err != nil {
		l.Close()
		return err
	}
	g := tcpgateway.New(l, o)
	context.AfterFunc(ctx, func() { _ = g.Close() }) // Serve tells how it ended
	log.Info("ready to proxy client requests", zap.Stringer("address", l.Addr()), zap.Strings("endpoints", addresses(o.Endpoints)))
	notify(daemon.SdNotifyReady, log)
	err = g.Serve()
	_ = g.Close()
	return err
}

// options checks the flags, and finds the endpoints.
func (f *gatewayFlags) options(ctx context.Context) (tcpgateway.Options, error) {
	o := tcpgateway.Options{RetryDelay: f.retryDelay, Dial: new(net.Dialer).DialContext, Clock: clock.System}
	if f.retryDelay <= 0 {
		return o, fmt.Errorf("--retry-delay=%v: give a time above zero, such as 30s", f.retryDelay)
	}
	if f.domain == "" {
		for _, text := range f.endpoints {
			address, err := gatewayAddress(text)
			if err != nil {
				return o, err
			}
			o.Endpoints = append(o.Endpoints, tcpgateway.Endpoint{Address: address})
		}
		return o, nil
	}
	authorities, err := readAuthorities(f.caFile)
	if err != nil {
		return o, err
	}
	o.Resolve = func(ctx context.Context) ([]tcpgateway.Endpoint, error) { return f.lookUp(ctx, authorities) }
	o.Endpoints, err = o.Resolve(ctx)
	return o, err
}

// apart refuses endpoints (HOST:PORT) that are where a gateway or proxy itself listens: it would call itself for ever. What can't
// be looked up now is left to it, as it passes over that.
func apart(ctx context.Context, who string, at net.Addr, endpoints []string) error {
	own, ok := at.(*net.TCPAddr)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	for _, e := range endpoints {
		host, port, err := net.SplitHostPort(e)
		if err != nil || port != strconv.Itoa(own.Port) {
			continue
		}
		found, _ := net.DefaultResolver.LookupIPAddr(ctx, host)
		for _, x := range found {
			if own.IP.Equal(x.IP) || own.IP.IsUnspecified() && isLocal(x.IP) {
				return fmt.Errorf("%s (%s) is the %s's own address: it would pass all on to itself; give members alone", e, x.IP, who)
			}
		}
	}
	return nil
}

// isLocal tells whether an address is one of this machine's.
func isLocal(ip net.IP) bool {
	all, _ := net.InterfaceAddrs()
	return ip.IsLoopback() || slices.ContainsFunc(all, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// gatewayAddress reads one of --endpoints.
func gatewayAddress(text string) (string, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "https://") {
		return "", fmt.Errorf("--endpoints: %q: the gateway does not terminate TLS, it passes bytes on; give the host and port alone, and have clients speak TLS with the member through it", text)
	}
	address := strings.TrimSuffix(strings.TrimPrefix(text, "http://"), "/")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), portDefault
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("--endpoints: %q: write HOST or HOST:PORT, an IPv6 address in brackets", text)
		}
	}
	if host == "" || port == "" || strings.ContainsAny(host+port, "/ ") {
		return "", fmt.Errorf("--endpoints: %q: write HOST or HOST:PORT", text)
	}
	return net.JoinHostPort(host, port), nil
}

// readAuthorities reads the certificates of a file; nil, for the system's, without one.
func readAuthorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--trusted-ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--trusted-ca-file: %s has no certificate in PEM", file)
	}
	return pool, nil
}

// lookUp finds the endpoints in DNS. Unless --insecure-discovery is set, each must show a certificate of the domain: whoever
// can forge an answer of DNS would else get all traffic.
func (f *gatewayFlags) lookUp(ctx context.Context, authorities *x509.CertPool) ([]tcpgateway.Endpoint, error) {
	found, err := dnssrv.Clients(ctx, net.DefaultResolver, f.domain, f.service)
	if err != nil {
		return nil, fmt.Errorf("--discovery-srv=%s: %w", f.domain, err)
	}
	if !f.insecure {
		if found, err = dnssrv.Trusted(ctx, found, &tls.Config{RootCAs: authorities, ServerName: f.domain}); err != nil {
			return nil, fmt.Errorf("--discovery-srv=%s: %w; --insecure-discovery takes them as they are", f.domain, err)
		}
	}
	endpoints := make([]tcpgateway.Endpoint, 0, len(found))
	for _, x := range found {
		endpoints = append(endpoints, tcpgateway.Endpoint{Address: x.Address(), Priority: x.Priority, Weight: x.Weight})
	}
	if len(endpoints) == 0 {
		return nil, errors.New("no endpoints")
	}
	return endpoints, nil
}

func addresses(endpoints []tcpgateway.Endpoint) (all []string) {
	for _, e := range endpoints {
		all = append(all, e.Address)
	}
	return all
}
