package main

import (
	"crypto/tls"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"keelson/internal/kit/tlsconf"
	"keelson/internal/proxy/grpcproxy"
)

const (
	// proxyKeepAlive finds dead clients, as on a member's ports.
	proxyKeepAlive = 30 * time.Second
	// proxyDialTime bounds opening a connection to a member: etcd's.
	proxyDialTime = 5 * time.Second
	// proxyOverhead is what a request may be larger than --max-send-bytes: as on a member's ports. What is too large for the
	// members is refused by these limits either way.
	proxyOverhead = 512 << 10
)

// proxyFlags are the flags of grpc-proxy start.
type proxyFlags struct {
	proxyMembers
	proxyListen
	proxyServe
}

// proxyMembers are the flags that say how members are reached.
type proxyMembers struct {
	endpoints                           []string
	domain, service                     string
	insecure                            bool
	autoSync                            time.Duration
	cacert, cert, key                   string
	skipVerify                          bool
	dialKeepAlive, dialKeepAliveTimeout time.Duration
	withoutStream                       bool
	maxSend, maxRecv                    int
}

// proxyListen are the flags of the proxy's ports.
type proxyListen struct {
	listen, metrics                   string
	certFile, keyFile, trustedCA, crl string
	suites                            []string
	minVersion, maxVersion            string
	autoTLS                           bool
	validity                          uint
	dir                               string
	streams                           uint32
	pings                             proxyPings
	limits                            tlsconf.Limits // made of others by check
}

// proxyPings are the flags of pings from clients and to them.
type proxyPings struct {
	min, interval, timeout time.Duration
}

// proxyServe are the flags that say what is served.
type proxyServe struct {
	advertise, resolver string
	ttl                 int
	namespace, leasing  string
	ordering            bool
	profiles, debug     bool
	logRequests         bool
}

func (f *proxyFlags) bind(fs *pflag.FlagSet) {
	f.proxyMembers.bind(fs)
	f.proxyListen.bind(fs)
	f.proxyServe.bind(fs)
}

func (f *proxyMembers) bind(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.endpoints, "endpoints", []string{"127.0.0.1:" + portDefault}, "members of the cluster, separated by commas")
	fs.StringVar(&f.domain, "discovery-srv", "", "DNS domain whose SRV records name the members, in place of --endpoints")
	fs.StringVar(&f.service, "discovery-srv-name", "", "name behind the service in those records, where a domain has several clusters")
	fs.BoolVar(&f.insecure, "insecure-discovery", false, "take endpoints from SRV records as they are, also those without TLS")
	fs.DurationVar(&f.autoSync, "endpoints-auto-sync-interval", 0, "how often endpoints are replaced by those in the cluster's member list, such as 1m (0: never)")
	fs.StringVar(&f.cacert, "cacert", "", "authorities that members' certificates must be from")
	fs.StringVar(&f.cert, "cert", "", "certificate to show to members; it must have no common name")
	fs.StringVar(&f.key, "key", "", "key of --cert")
	fs.BoolVar(&f.skipVerify, "insecure-skip-tls-verify", false, "do not check members' certificates: for tests alone")
	fs.DurationVar(&f.dialKeepAlive, "dial-keepalive-time", 0, "how long a connection to a member may be silent before it is pinged (0: it never is)")
	fs.DurationVar(&f.dialKeepAliveTimeout, "dial-keepalive-timeout", 20*time.Second, "how long the answer to that ping may take")
	fs.BoolVar(&f.withoutStream, "permit-without-stream", false, "ping members also while no call is under way")
	fs.IntVar(&f.maxSend, "max-send-bytes", 3<<19, "largest request sent to members, in bytes")
	fs.IntVar(&f.maxRecv, "max-recv-bytes", math.MaxInt32, "largest answer taken from members, in bytes")
}

func (f *proxyListen) bind(fs *pflag.FlagSet) {
	fs.StringVar(&f.listen, "listen-addr", "127.0.0.1:23790", "address that takes clients")
	fs.StringVar(&f.metrics, "metrics-addr", "", "one more URL that answers /metrics and /health")
	fs.StringVar(&f.certFile, "cert-file", "", "certificate to show to clients, read again when it changes")
	fs.StringVar(&f.keyFile, "key-file", "", "key of --cert-file")
	fs.StringVar(&f.trustedCA, "trusted-ca-file", "", "authorities that clients' certificates must be from; without it they need none")
	fs.StringVar(&f.crl, "client-crl-file", "", "list of clients' certificates that are revoked")
	fs.StringSliceVar(&f.suites, "listen-cipher-suites", nil, "TLS cipher suites for clients, separated by commas (empty: Go's)")
	fs.StringVar(&f.minVersion, "tls-min-version", "TLS1.2", "lowest TLS version for clients: TLS1.2 or TLS1.3")
	fs.StringVar(&f.maxVersion, "tls-max-version", "", "highest TLS version for clients (empty: Go's)")
	fs.BoolVar(&f.autoTLS, "auto-tls", false, "make a certificate for --listen-addr, signed by nobody, in --data-dir")
	fs.UintVar(&f.validity, "self-signed-cert-validity", 1, "how many years that certificate is good for")
	fs.StringVar(&f.dir, "data-dir", "default.proxy", "directory of files that the proxy makes")
	fs.Uint32Var(&f.streams, "max-concurrent-streams", math.MaxUint32, "calls and streams that a client may have open on one connection")
	fs.DurationVar(&f.pings.min, "grpc-keepalive-min-time", 5*time.Second, "how long clients have to wait between pings")
	fs.DurationVar(&f.pings.interval, "grpc-keepalive-interval", 2*time.Hour, "how long a client may be silent before it is pinged (0: it never is)")
	fs.DurationVar(&f.pings.timeout, "grpc-keepalive-timeout", 20*time.Second, "how long the answer to that ping may take")
}

func (f *proxyServe) bind(fs *pflag.FlagSet) {
	fs.StringVar(&f.advertise, "advertise-client-url", "127.0.0.1:23790", "address of this proxy in the member list (empty: the list is the members')")
	fs.StringVar(&f.resolver, "resolver-prefix", "", "prefix below which proxies find each other in the cluster")
	fs.IntVar(&f.ttl, "resolver-ttl", 0, "seconds after which a proxy that died is out of the member list")
	fs.StringVar(&f.namespace, "namespace", "", "prefix of all keys of the clients, which do not see it")
	fs.StringVar(&f.leasing, "experimental-leasing-prefix", "", "prefix of leases by which the proxy may answer linearizable reads by itself")
	fs.BoolVar(&f.ordering, "experimental-serializable-ordering", false, "serializable reads never go back in revisions, whichever member answers")
	fs.BoolVar(&f.profiles, "enable-pprof", false, "serve profiles of this process at /debug/pprof/")
	fs.BoolVar(&f.debug, "debug", false, "log at the level debug")
	fs.BoolVar(&f.logRequests, "experimental-enable-grpc-logging", false, "log every call")
}

// check tells what does not fit together, and fills in what follows.
func (f *proxyFlags) check() error {
	switch {
	case f.resolver != "" && f.ttl < 1:
		return fmt.Errorf("invalid resolver-ttl %d: --resolver-prefix needs one above zero, in seconds", f.ttl)
	case f.resolver == "" && f.ttl > 0:
		return fmt.Errorf("invalid resolver-prefix %q: --resolver-ttl needs one", f.resolver)
	case f.resolver != "" && f.advertise == "":
		return fmt.Errorf("invalid advertise-client-url %q: --resolver-prefix needs one", f.advertise)
	case f.autoTLS && f.validity == 0:
		return fmt.Errorf("--self-signed-cert-validity=%d: give a number of years above zero", f.validity)
	case (f.cert == "") != (f.key == ""):
		return fmt.Errorf("--cert=%s and --key=%s: give both, or none", f.cert, f.key)
	case (f.certFile == "") != (f.keyFile == ""):
		return fmt.Errorf("--cert-file=%s and --key-file=%s: give both, or none", f.certFile, f.keyFile)
	case f.certFile == "" && !f.autoTLS && f.trustedCA+f.crl != "":
		return fmt.Errorf("--trusted-ca-file=%s and --client-crl-file=%s: clients are checked within TLS, which needs --cert-file and --key-file", f.trustedCA, f.crl)
	case f.maxSend <= 0 || f.maxRecv <= 0 || f.maxSend > math.MaxInt32 || f.maxRecv > math.MaxInt32:
		return fmt.Errorf("--max-send-bytes=%d and --max-recv-bytes=%d: give numbers from 1 to %d", f.maxSend, f.maxRecv, math.MaxInt32)
	}
	if err := checkMetricsAddr(f.metrics, f.certFile != "" || f.autoTLS, "--cert-file and --key-file, or --auto-tls"); err != nil {
		return err
	}
	return f.checkTLS()
}

func (f *proxyFlags) checkTLS() (err error) {
	if f.limits.MinVersion, err = tlsconf.Version(f.minVersion); err != nil {
		return fmt.Errorf("--tls-min-version: %w", err)
	}
	if f.limits.MaxVersion, err = tlsconf.Version(f.maxVersion); err != nil {
		return fmt.Errorf("--tls-max-version: %w", err)
	}
	if f.limits.MaxVersion != 0 && f.limits.MaxVersion < f.limits.MinVersion {
		return fmt.Errorf("--tls-max-version=%s is below --tls-min-version=%s", f.maxVersion, f.minVersion)
	}
	for _, name := range f.suites {
		id, err := tlsconf.CipherSuite(name)
		if err != nil {
			return fmt.Errorf("--listen-cipher-suites: %w", err)
		}
		f.limits.CipherSuites = append(f.limits.CipherSuites, id)
	}
	if len(f.suites) > 0 && f.limits.MinVersion == tls.VersionTLS13 {
		return fmt.Errorf("--listen-cipher-suites: TLS 1.3 leaves no choice of suites; leave it empty with --tls-min-version=%s", f.minVersion)
	}
	return nil
}

// certificates is where --auto-tls keeps what it makes: etcd's place.
func (f *proxyFlags) certificates() string { return filepath.Join(f.dir, "fixtures", "proxy") }

// options gives the proxy what the flags say.
func (f *proxyFlags) options(log *zap.Logger, secure bool, outgoing *tls.Config) grpcproxy.Options {
	o := grpcproxy.Options{
		Namespace: f.namespace, Leasing: f.leasing, Ordering: f.ordering, Advertise: f.advertise, ResolverPrefix: f.resolver, ResolverTTL: f.ttl,
		Profiles: f.profiles, HTTP: fetcher(outgoing), Logger: log,
		GRPC: []grpc.ServerOption{
			grpc.MaxConcurrentStreams(f.streams), grpc.MaxRecvMsgSize(min(f.maxSend, math.MaxInt32-proxyOverhead) + proxyOverhead), grpc.MaxSendMsgSize(math.MaxInt32),
			grpc.MaxHeaderListSize(headerBytesMax), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: f.pings.min}),
		},
	}
	if f.pings.interval > 0 && f.pings.timeout > 0 {
		o.GRPC = append(o.GRPC, grpc.KeepaliveParams(keepalive.ServerParameters{Time: f.pings.interval, Timeout: f.pings.timeout}))
	}
	if secure {
		o.GRPC = append(o.GRPC, grpc.Creds(handshaken{insecure.NewCredentials()}))
	}
	if f.logRequests {
		o.GRPC = append(o.GRPC, grpcproxy.LogCalls(log)...)
	}
	return o
}
