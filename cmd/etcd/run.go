package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"

	"keelson/internal/config"
	"keelson/internal/edge/health"
	"keelson/internal/edge/rpc"
	"keelson/internal/edge/v2auth"
	"keelson/internal/edge/v2http"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/release"
	"keelson/internal/server"
	"keelson/internal/state/v2tree"
)

const (
	// drainTime is what requests in flight get at a stop. They take milliseconds; watches and other streams never end by
	// themselves and are cut after it.
	drainTime = time.Second
	// stopTime bounds the rest of a stop: handing leadership over, and bringing the store up to date.
	stopTime = 20 * time.Second
	// requestGrace is what a request may take beside two election time-outs, as etcd counts.
	requestGrace = 5 * time.Second
)

// errSecondSignal ends the program at once.
var errSecondSignal = errors.New("told to stop a second time")

// run lives a member's life. The first signal asks for a stop, the second for an end at once. It answers nil after a stop that
// was asked for, else why the member could not start or go on.
func run(cfg *config.Config, log *zap.Logger, signals <-chan os.Signal) error {
	prepare(cfg, log)
	socks, err := openSockets(cfg)
	if err != nil {
		return err
	}
	defer socks.close()
	secrets, err := openMaterials(cfg, log)
	if err != nil {
		return err
	}
	seen := newObserved()
	seen.registry.MustRegister(newExpiries(secrets))
	traffic := new(v2http.Traffic)
	network := newNetwork(cfg, log, seen.registry, secrets.peer, traffic)
	heap := collector.allow(loadingHeap)
	m, err := build(cfg, server.Deps{
		FS: disk(), Clock: clock.System, Logger: log,
		Network: network.connect, Caller: network, Discover: discover(cfg, log, network), Observe: seen.observer(),
	}, signals)
	collector.allow(heap)
	if err != nil {
		return err
	}
	seen.register(m, cfg)
	f, err := newFront(cfg, log, m, seen.registry, secrets, traffic)
	if err != nil {
		return err
	}
	f.serveMetrics(socks.metrics)
	m.Start() // before members' requests are taken: they wait on the open sockets
	f.servePeers(socks.peer, network.handler(m), cfg.Security.Peer.SkipSAN)
	why := serve(f, m, socks, signals, log)
	if errors.Is(why, server.ErrRemoved) {
		// This is no failure: nobody needs to start it again.
		log.Warn("server error", zap.Error(why))
		log.Warn("data-dir used by this member must be removed", zap.String("data-dir", cfg.Member.DataDir),
			zap.String("to-come-back", "etcdctl member add, then an empty data directory and --initial-cluster-state existing"))
		why = nil
	}
	if why == nil {
		go func() {
			<-signals
			log.Error("stopping at once", zap.Error(errSecondSignal))
			os.Exit(exitFailed)
		}()
	}
	return errors.Join(why, stop(f, m, log))
}

// build makes the member. Reading a large directory, or asking a cluster that does not answer, takes a while: a signal ends it,
// and the program with it, as a crash would.
func build(cfg *config.Config, d server.Deps, signals <-chan os.Signal) (*server.Member, error) {
	type outcome struct {
		m   *server.Member
		err error
	}
	built := make(chan outcome, 1)
	go func() {
		m, err := server.New(cfg, d)
		built <- outcome{m, err}
	}()
	select {
	case o := <-built:
		return o.m, o.err
	case s := <-signals:
		return nil, fmt.Errorf("received a signal (%s) before the start was done", s)
	}
}

// serve opens the client ports once the cluster knows the member, and waits for the end. It answers nil for a signal.
func serve(f *front, m *server.Member, socks *sockets, signals <-chan os.Signal, log *zap.Logger) error {
	ready := m.Ready()
	for {
		select {
		case <-ready:
			ready = nil
			log.Info("ready to serve client requests")
			f.serveClients(socks.client, socks.clientHTTP)
			notify(daemon.SdNotifyReady, log)
		case s := <-signals:
			log.Info("received a signal; shutting down", zap.Stringer("signal", s))
			return nil
		case err := <-f.failed:
			return err
		case <-m.Failed():
			return m.Err()
		}
	}
}

// stop ends the member in order: clients first, so that nobody is promised what can't be kept; then the member, which hands
// leadership over while its peers still reach it; then the peer port.
func stop(f *front, m *server.Member, log *zap.Logger) error {
	notify(daemon.SdNotifyStopping, log)
	f.stopClients()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err := m.Stop(ctx)
	f.stopPeers()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// prepare fills in what only the machine knows, and tells what is being started.
func prepare(cfg *config.Config, log *zap.Logger) {
	cfg.Cluster.Resolve = net.LookupHost
	if host := defaultHost(); cfg.AdvertiseHost(host) {
		log.Info("detected default host for advertise", zap.String("host", host))
	}
	if cfg.Member.Name == "default" {
		log.Warn("every member needs a name of its own: set --name before a second member joins", zap.String("name", cfg.Member.Name))
	}
	if cfg.Storage.NoSync {
		log.Warn("--unsafe-no-fsync is set: a crash of the machine loses acknowledged writes")
	}
	log.Info("starting an etcd server",
		zap.String("etcd-version", version.Version), zap.String("keelson-version", release.Version), zap.String("git-sha", release.Commit()),
		zap.String("go-version", runtime.Version()), zap.String("go-os", runtime.GOOS), zap.String("go-arch", runtime.GOARCH),
		zap.Int("max-cpu-set", runtime.GOMAXPROCS(0)), zap.Int("max-cpu-available", runtime.NumCPU()),
		zap.String("name", cfg.Member.Name), zap.String("data-dir", cfg.Member.DataDir), zap.String("wal-dir", cfg.Member.WALDir),
		zap.Strings("initial-advertise-peer-urls", cfg.Cluster.AdvertisePeer.StringSlice()),
		zap.Strings("listen-peer-urls", cfg.Listen.Peer.StringSlice()),
		zap.Strings("advertise-client-urls", cfg.Cluster.AdvertiseClient.StringSlice()),
		zap.Strings("listen-client-urls", cfg.Listen.Client.StringSlice()),
		zap.Strings("listen-metrics-urls", cfg.Listen.Metrics.StringSlice()),
		zap.String("initial-cluster", cfg.Cluster.Initial), zap.Bool("initial-cluster-existing", cfg.Cluster.Existing),
		zap.String("initial-cluster-token", shownToken(&cfg.Cluster)),
		zap.Duration("heartbeat-interval", cfg.Raft.Heartbeat), zap.Duration("election-timeout", cfg.Raft.Election),
		zap.Bool("pre-vote", cfg.Raft.PreVote), zap.Uint64("snapshot-count", cfg.Raft.SnapshotCount),
		zap.Int64("quota-backend-bytes", cfg.Storage.QuotaBytes), zap.Uint("max-request-bytes", cfg.Limits.RequestBytes),
	)
}

// shownToken is the cluster's token, which may be a URL that has a password in it.
func shownToken(c *config.Cluster) string {
	if c.Discovery.URL != nil {
		return config.Redacted(c.Token)
	}
	return c.Token
}

// defaultHost is the address that this machine would call out from. Nothing is sent: the address of a UDP socket is looked up
// alone, towards one that is set aside for documentation.
func defaultHost() string {
	c, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return ""
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// notify tells systemd, where it started this program with Type=notify.
func notify(state string, log *zap.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Error("failed to notify systemd", zap.String("state", state), zap.Error(err))
	}
}

func rpcOptions(cfg *config.Config, log *zap.Logger, r prometheus.Registerer) rpc.Options {
	return rpc.Options{
		MaxRequestBytes: cfg.Limits.RequestBytes, MaxConcurrentStreams: cfg.Limits.Streams,
		KeepaliveMinTime: cfg.KeepAlive.MinTime, KeepaliveInterval: orNever(cfg.KeepAlive.Interval), KeepaliveTimeout: orNever(cfg.KeepAlive.Timeout),
		WarnUnary: cfg.Limits.WarnUnary, ClientCertAuth: cfg.Security.Client.CertAuth, ElectionTimeout: cfg.Raft.Election, ExtensiveMetrics: cfg.Monitoring.Extensive,
		Registerer: r, Logger: log, Clock: clock.System,
	}
}

// orNever turns the 0 that switches pings off into a time that never comes.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return 1<<63 - 1
	}
	return d
}

func healthOptions(cfg *config.Config, log *zap.Logger, r *prometheus.Registry) health.Options {
	return health.Options{
		Timeout: requestGrace + 2*cfg.Raft.Election, Registry: r, Pprof: cfg.Monitoring.Pprof, Logger: log,
	}
}

func v2Options(cfg *config.Config, log *zap.Logger, traffic *v2http.Traffic) v2http.Options {
	return v2http.Options{
		Prefix: v2tree.At(cfg.V2.Prefix), Timeout: requestGrace + 2*cfg.Raft.Election, ClientCertAuth: cfg.Security.Client.CertAuth,
		MaxRequestBytes: cfg.Limits.RequestBytes, Name: cfg.Member.Name, Clock: clock.System, Logger: log, Traffic: traffic,
	}
}

func v2AuthOptions(cfg *config.Config, log *zap.Logger, m v2http.Callers) v2auth.Options {
	certified := cfg.Security.Client.CertAuth
	return v2auth.Options{
		Prefix: v2tree.At(cfg.V2.Prefix), Timeout: requestGrace + 2*cfg.Raft.Election, ClientCertAuth: certified,
		Logger: log,
		Caller: func(ctx context.Context, r *http.Request) (context.Context, error) {
			return v2http.Caller(ctx, m, certified, r)
		},
	}
}

// portError says which port failed.
func portError(address net.Addr, err error) error {
	return fmt.Errorf("listener %s failed: %w", address, err)
}
