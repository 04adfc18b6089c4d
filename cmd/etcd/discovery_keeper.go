package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"

	"keelson/internal/config"
	"keelson/internal/edge/discoverysvc"
	"keelson/internal/edge/rpc"
	"keelson/internal/edge/v2http"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/logging"
	"keelson/internal/kit/tlsconf"
	"keelson/internal/server"
)

// keeper is what keeps the tokens of the discovery service.
type keeper struct {
	store discoverysvc.Store
	// failed is closed when it can't go on, and why tells the reason; nil where it always can.
	failed <-chan struct{}
	why    func() error
	close  func() error
}

// discoveryCluster is how the cluster is reached that keeps the tokens.
type discoveryCluster struct {
	endpoints         []string
	cacert, cert, key string
	user, password    string
}

func (c *discoveryCluster) bind(fs *pflag.FlagSet) {
	fs.StringSliceVar(&c.endpoints, "endpoints", nil, "members of a cluster to keep the tokens in, separated by commas, in place of --data-dir")
	fs.StringVar(&c.cacert, "cacert", "", "trust members of --endpoints whose certificate is signed by this bundle of CAs")
	fs.StringVar(&c.cert, "cert", "", "certificate to show to members of --endpoints")
	fs.StringVar(&c.key, "key", "", "key of --cert")
	fs.StringVar(&c.user, "user", "", "user name for --endpoints, or name:password; it must be allowed to read and write below --prefix")
	fs.StringVar(&c.password, "password", "", "password of --user")
}

// discoveryDial bounds opening a connection to a member.
const discoveryDial = 5 * time.Second

func (c *discoveryCluster) check() error {
	if len(c.endpoints) == 0 && c.cacert+c.cert+c.key+c.user+c.password != "" {
		return errors.New("--cacert, --cert, --key, --user and --password are for reaching a cluster: they need --endpoints")
	}
	if (c.cert == "") != (c.key == "") {
		return errors.New("--cert and --key: give both, or none")
	}
	return nil
}

// open makes a client of the cluster. It connects when it is first used, so that the service may start before the cluster.
func (c *discoveryCluster) open(log *zap.Logger) (*keeper, error) {
	spec := &clientv3.ConfigSpec{
		Endpoints: c.endpoints, DialTimeout: discoveryDial, KeepAliveTime: discoveryDial, KeepAliveTimeout: discoveryDial,
		Secure: &clientv3.SecureConfig{Cacert: c.cacert, Cert: c.cert, Key: c.key, InsecureTransport: true},
	}
	if c.user != "" {
		name, password, given := strings.Cut(c.user, ":")
		if !given || c.password != "" {
			name, password = c.user, c.password
		}
		spec.Auth = &clientv3.AuthConfig{Username: name, Password: password}
	}
	cfg, err := clientv3.NewClientConfig(spec, log)
	if err != nil {
		return nil, fmt.Errorf("--cacert, --cert and --key: %w", err)
	}
	cfg.Logger = zap.NewNop() // what fails is told by the service, seldom
	client, err := clientv3.New(*cfg)
	if err != nil {
		return nil, fmt.Errorf("--endpoints=%s: %w", strings.Join(c.endpoints, ","), err)
	}
	return &keeper{
		store: discoverysvc.Store{
			KV: clientv3.RetryKVClient(client), Lease: clientv3.RetryLeaseClient(client), Watch: pb.NewWatchClient(client.ActiveConnection()),
		},
		close: client.Close,
	}, nil
}

// keeperName is the name of the embedded member.
const keeperName = "discovery"

// errForeignDir is returned for a directory of a member that is not the service's.
var errForeignDir = errors.New("holds another member: give the discovery service a directory of its own")

// ownMember refuses the directory of any other member: its cluster would miss it, and who calls it.
func ownMember(ctx context.Context, m *server.Member) error {
	list, err := m.MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return err
	}
	for _, x := range list.Members {
		if x.Name != "" && x.Name != keeperName || len(list.Members) > 1 {
			return fmt.Errorf("%w (found %q)", errForeignDir, x.Name)
		}
	}
	return nil
}

// errEarlySignal is returned when the service was told to stop before it had begun.
var errEarlySignal = errors.New("received a signal before the start was done")

// openEmbedded starts a member of its own on a directory, for this process alone: it opens no port, and nobody else joins it.
func openEmbedded(ctx context.Context, dir string, log *zap.Logger) (*keeper, error) {
	cfg, _, err := config.Parse([]string{"--name=" + keeperName, "--data-dir=" + dir, "--initial-cluster=" + keeperName + "=http://localhost:2380", "--auto-compaction-retention=1h"}, nil, nil)
	if err != nil {
		return nil, err
	}
	log.Info("keeping tokens in a directory of this service", zap.String("data-dir", dir))
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	quiet := logging.AtLeast(log, zap.WarnLevel)
	secrets, err := tlsconf.Open(tlsconf.Options{Logger: quiet})
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry() // nobody asks for these metrics
	network := newNetwork(cfg, quiet, registry, secrets, new(v2http.Traffic))
	m, err := server.New(cfg, server.Deps{FS: disk(), Clock: clock.System, Logger: quiet, Network: network.connect, Caller: network})
	if err != nil {
		return nil, fmt.Errorf("--data-dir=%s: %w", dir, err)
	}
	if err := ownMember(ctx, m); err != nil {
		return nil, errors.Join(fmt.Errorf("--data-dir=%s: %w", dir, err), m.Stop(ctx))
	}
	m.Start()
	services := rpc.NewServer(m, rpcOptions(cfg, quiet, registry))
	conn := services.InProcess()
	k := &keeper{
		store:  discoverysvc.Store{KV: pb.NewKVClient(conn), Lease: pb.NewLeaseClient(conn), Watch: pb.NewWatchClient(conn)},
		failed: m.Failed(), why: m.Err,
	}
	k.close = func() error {
		services.Stop()
		services.Close()
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		return m.Stop(ctx)
	}
	select {
	case <-m.Ready():
		return k, nil
	case <-m.Failed():
		return nil, errors.Join(m.Err(), k.close())
	case <-ctx.Done():
		return nil, errors.Join(errEarlySignal, k.close())
	}
}
