package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/edge/discoverysvc"
	"keelson/internal/edge/health"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/listen"
	"keelson/internal/kit/logging"
	"keelson/internal/kit/tlsconf"
	"keelson/internal/state/v2tree"
)

const discoveryHelp = `Serves tokens by which the members of a new cluster find each other. Start it once, somewhere that all of them can reach:

  etcd discovery start --listen-addr=10.0.0.9:8087 --data-dir=/var/lib/etcd-discovery

Then ask it for a token, one for each new cluster, and start every member with the URL that it answers:

  curl http://10.0.0.9:8087/new?size=3
  etcd --name infra0 --initial-advertise-peer-urls http://10.0.0.1:2380 ... --discovery http://10.0.0.9:8087/TOKEN

A member that waits logs who is missing. Open http://10.0.0.9:8087/ in a browser to see the same.

Where the tokens are: in --data-dir, kept by a member inside this process that opens no port, or, with --endpoints, in a
cluster below --prefix; several services may share it. They are needed until a cluster has come up, never after it: a cluster
whose service is gone runs on. A token ends after a week.

If members do not find each other:
  * "key not found", 404     the token has ended or was mistyped: make a new one.
  * "duplicate ID", 412      this member has registered before, and lost its data directory: make a new token, and start all
                             members with it, on empty data directories.
  * "cluster is full"        as many members as the token is for have registered; see them at /. A member that is added later
                             joins with etcdctl member add, not with a token.
  * the URL does not answer  --advertise-url is what members are told to call: it must lead here from where they are.
  * 429 or 503               one address asks too often (--rate-limit), or there are too many tokens (--max-tokens). Behind a
                             reverse proxy, name it with --trusted-proxies, or all members count as one address.

Whoever knows a token's URL can join its cluster. Use --cert-file and --key-file, for https, where strangers can listen.

  /health         whether tokens can be made and read
  /metrics        for Prometheus: tokens, registrations, requests, who was turned away, and this process. With --metrics-addr
                  it is there alone, and strangers do not see it`

// discoveryFlags are the flags of discovery start.
type discoveryFlags struct {
	listen, advertise string
	cert, key         string
	dir               string
	prefix            string
	tokens            int
	rate              float64
	proxies           []string
	metrics           string
	log               logging.Options
	cluster           discoveryCluster
}

func discoveryCommand() *cobra.Command {
	var f discoveryFlags
	start := &cobra.Command{
		Use: "start", Short: "Serves tokens by which new clusters find their members", Long: discoveryHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDiscovery(cmd.Context(), &f) },
	}
	fs := start.Flags()
	fs.StringVar(&f.listen, "listen-addr", "127.0.0.1:8087", "address that takes requests")
	fs.StringVar(&f.advertise, "advertise-url", "", "URL by which members reach this service, also through a reverse proxy, which cuts a path in it off (default: that of --listen-addr)")
	fs.StringVar(&f.cert, "cert-file", "", "certificate to serve https with, read again when it changes")
	fs.StringVar(&f.key, "key-file", "", "key of --cert-file")
	fs.StringVar(&f.dir, "data-dir", "", `directory that keeps the tokens (default "discovery.etcd", without --endpoints)`)
	fs.StringVar(&f.prefix, "prefix", discoverysvc.DefaultPrefix, "where tokens are kept, among other keys of the cluster")
	fs.IntVar(&f.tokens, "max-tokens", discoverysvc.TokensMaxDefault, "how many tokens are kept at once")
	fs.Float64Var(&f.rate, "rate-limit", discoverysvc.RateDefault, "requests a second that one address may send; a new token counts as 20")
	fs.StringSliceVar(&f.proxies, "trusted-proxies", nil, "addresses or networks of reverse proxies, such as 10.0.0.0/8, whose X-Forwarded-For is believed")
	fs.StringVar(&f.metrics, "metrics-addr", "", "URL that answers /metrics and /health, such as http://127.0.0.1:8088; --listen-addr then has no /metrics")
	fs.StringVar(&f.log.Level, "log-level", "info", "least important line to log: debug, which has a line for each request, info, warn, error, panic or fatal")
	fs.StringVar(&f.log.Format, "log-format", "json", "json or console")
	fs.StringSliceVar(&f.log.Outputs, "log-outputs", []string{logging.Default}, "where the log goes: stderr, stdout, systemd/journal or paths of files, separated by commas")
	f.cluster.bind(fs)
	return groupOf("discovery", "A service by which new clusters find their members", start)
}

// runDiscovery serves tokens until a signal ends it.
func runDiscovery(ctx context.Context, f *discoveryFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	log, done, err := logging.New(f.log)
	if err != nil {
		return fmt.Errorf("--log-level=%s, --log-format=%s, --log-outputs=%s: %w", f.log.Level, f.log.Format, strings.Join(f.log.Outputs, ","), err)
	}
	defer func() { _ = done() }() // there is nowhere left to tell
	o.Logger = log
	secrets, err := f.secrets(log)
	if err != nil {
		return err
	}
	ports, err := openPair(ctx, f.listen, f.metrics, secrets)
	if err != nil {
		return err
	}
	defer ports.close()
	at := ports.client.Addr()
	if o.Advertise == "" {
		o.Advertise = advertised(at, secrets != nil)
		log.Info("members are told to call this address; --advertise-url names another one", zap.String("url", o.Advertise))
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	k, err := f.keep(ctx, log)
	if err != nil {
		return err
	}
	s := discoverysvc.New(k.store, o)
	log.Info("ready to serve discovery", zap.Stringer("address", at), zap.String("new-token", config.Redacted(o.Advertise)+"/new?size=3"))
	err = serveDiscovery(ctx, ports, s, k, log)
	return errors.Join(err, k.close())
}

// keep opens what keeps the tokens.
func (f *discoveryFlags) keep(ctx context.Context, log *zap.Logger) (*keeper, error) {
	if len(f.cluster.endpoints) > 0 {
		return f.cluster.open(log)
	}
	dir := f.dir
	if dir == "" {
		dir = "discovery.etcd"
	}
	return openEmbedded(ctx, dir, log)
}

// options checks the flags.
func (f *discoveryFlags) options() (discoverysvc.Options, error) {
	o := discoverysvc.Options{
		Prefix: v2tree.At(f.prefix), TokensMax: f.tokens, Rate: f.rate, Clock: clock.System,
		Registry: prometheus.NewRegistry(), MetricsApart: f.metrics != "",
	}
	o.Registry.MustRegister(health.ProcessCollectors()...)
	switch {
	case f.dir != "" && len(f.cluster.endpoints) > 0:
		return o, errors.New("--data-dir and --endpoints: give one, tokens are kept in a directory or in a cluster")
	case f.tokens < 1:
		return o, fmt.Errorf("--max-tokens=%d: give a number above zero", f.tokens)
	case !(f.rate > 0):
		return o, fmt.Errorf("--rate-limit=%v: give a number above zero", f.rate)
	case (f.cert == "") != (f.key == ""):
		return o, errors.New("--cert-file and --key-file: give both, or none for http")
	case f.prefix == "" || f.prefix == "/":
		return o, fmt.Errorf("--prefix=%s: give a place of its own, such as %s", f.prefix, discoverysvc.DefaultPrefix)
	}
	if f.advertise != "" {
		u, err := url.Parse(f.advertise)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return o, fmt.Errorf("--advertise-url=%s: give http://HOST:PORT or https://HOST:PORT", f.advertise)
		}
		o.Advertise = strings.TrimSuffix(f.advertise, "/")
	}
	for _, text := range f.proxies {
		p, err := parseNetwork(text)
		if err != nil {
			return o, fmt.Errorf("--trusted-proxies: %q: give an address or a network, such as 10.0.0.1 or 10.0.0.0/8", text)
		}
		o.Proxies = append(o.Proxies, p)
	}
	if err := checkMetricsAddr(f.metrics, f.cert != "", "--cert-file and --key-file"); err != nil {
		return o, err
	}
	return o, f.cluster.check()
}

func parseNetwork(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// secrets are what https is served with; nil for http.
func (f *discoveryFlags) secrets(log *zap.Logger) (*tlsconf.Material, error) {
	if f.cert == "" {
		return nil, nil
	}
	m, err := tlsconf.Open(tlsconf.Options{CertFile: f.cert, KeyFile: f.key, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--cert-file and --key-file: %w", err)
	}
	return m, nil
}

// advertised is the URL of an address that is listened on. One that stands for all of this machine's becomes the one that it
// would call out from.
func advertised(at net.Addr, secure bool) string {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(at.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		if found := defaultHost(); found != "" {
			return scheme + "://" + net.JoinHostPort(found, port)
		}
	}
	return scheme + "://" + at.String()
}

// discoveryTime is how long a request's headers may take, and how long a connection may wait for the next one: members ask one
// question after the other.
const discoveryTime = 15 * time.Second

// serveDiscovery serves until ctx ends, or what keeps the tokens fails, and joins.
func serveDiscovery(ctx context.Context, p *portPair, s *discoverysvc.Service, k *keeper, log *zap.Logger) error {
	var web []*http.Server
	serve := func(l net.Listener, h http.Handler) {
		w := discoveryHTTP(h, log)
		web = append(web, w)
		p.keep(l.Addr(), func() error {
			if err := w.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	serve(p.shaken(s.Limit(p.client), p.secrets != nil, "discovery", log, http1), s)
	if p.metrics != nil {
		serve(p.shaken(p.metrics, p.metricsTLS, "discovery", log, http1), s.Monitoring())
	}
	notify(daemon.SdNotifyReady, log)
	var err error
	select {
	case <-ctx.Done():
	case err = <-p.failed:
	case <-k.failed:
		err = k.why()
	}
	notify(daemon.SdNotifyStopping, log)
	s.Close()
	end, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	for _, w := range web {
		_ = w.Shutdown(end) // what lasts longer is cut
		_ = w.Close()
	}
	p.close()
	p.running.Wait()
	return err
}

// discoveryHTTP speaks HTTP/1.1 alone: a connection is one request, and bounds on the one are bounds on the other.
func discoveryHTTP(h http.Handler, log *zap.Logger) *http.Server {
	w := &http.Server{
		Handler: listen.Bound(h), ReadHeaderTimeout: discoveryTime, IdleTimeout: discoveryTime, MaxHeaderBytes: 8 << 10, Protocols: new(http.Protocols),
		ErrorLog: logging.HTTPErrors(log),
	}
	w.Protocols.SetHTTP1(true)
	return w
}
