package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/status"

	"keelson/cmd/etcdctl/output"
)

const (
	// A hint tries so many endpoints, each for so long: at most 4 × 250 ms = 1 s after a command has failed, where none of
	// them takes connections and then falls silent.
	probeEndpointsMax = 4
	probeTimeout      = 250 * time.Millisecond
)

// call is what a verb needs to ask the cluster and to print the answer.
type call struct {
	*clientv3.Client // nil after prepare
	*output.Printer
	app *app
}

// prepare settles the flags and the environment of cmd and makes the printer. A verb that changes something names the
// type of its answer, so that it fails before anything is sent where the format has no layout for it; one that only
// reads gives nil and learns it from Print.
func (a *app) prepare(cmd *cobra.Command, answer any) (*call, error) {
	return a.prepareWith(cmd, answer, output.Options{})
}

func (a *app) prepareWith(cmd *cobra.Command, answer any, o output.Options) (*call, error) {
	fs := cmd.InheritedFlags()
	if err := a.applyEnv(fs); err != nil {
		return nil, err
	}
	if err := refuseEmpty(fs); err != nil {
		return nil, err
	}
	a.set.clean()
	if err := a.set.discover(); err != nil {
		return nil, err
	}
	if a.set.debug {
		a.debug(fs)
	}
	o.Format, o.Hex = a.set.format, a.set.hex
	p, err := output.New(o, a.out, a.diag)
	if err == nil && answer != nil {
		err = p.Refuse(answer)
	}
	if err != nil {
		return nil, printed(err)
	}
	if err := a.set.access.login(prompter{a.in, a.out}, "Password: "); err != nil {
		return nil, err
	}
	return &call{Printer: p, app: a}, nil
}

// dial prepares and makes a client for all endpoints. The connection is made when it is first used.
func (a *app) dial(cmd *cobra.Command, answer any) (*call, error) {
	return a.dialWith(cmd, answer, output.Options{})
}

func (a *app) dialWith(cmd *cobra.Command, answer any, o output.Options) (*call, error) {
	c, err := a.prepareWith(cmd, answer, o)
	if err != nil {
		return nil, err
	}
	if c.Client, err = a.client(a.set.endpoints); err != nil {
		return nil, err
	}
	return c, nil
}

// ask is the whole of a verb that makes one call: it dials, calls within --command-timeout and prints the answer. A call
// that fails ends the program with status.
func (a *app) ask(cmd *cobra.Command, status int, answer any, call func(context.Context, *call) (any, error)) error {
	c, err := a.dial(cmd, answer)
	if err != nil {
		return err
	}
	defer closeQuietly(c)
	ctx, cancel := a.timed()
	defer cancel()
	r, err := call(ctx, c)
	if err != nil {
		return a.explain(status, err)
	}
	return printed(c.Print(r))
}

// client makes a client for the endpoints.
func (a *app) client(endpoints []string) (*clientv3.Client, error) {
	return a.set.access.client(a, endpoints)
}

// client makes a client for endpoints that x says how to reach.
func (x *access) client(a *app, endpoints []string) (*clientv3.Client, error) {
	spec := &clientv3.ConfigSpec{
		Endpoints:          endpoints,
		DialTimeout:        a.set.dialTimeout,
		KeepAliveTime:      a.set.keepaliveTime,
		KeepAliveTimeout:   a.set.keepaliveTimeout,
		MaxCallSendMsgSize: a.set.maxSendBytes,
		MaxCallRecvMsgSize: a.set.maxRecvBytes,
	}
	cfg, err := x.config(spec)
	if err != nil {
		return nil, err
	}
	cfg.Logger = a.logger()
	client, err := clientv3.New(*cfg)
	if err != nil {
		return nil, &exitError{status: statusBadConnection, err: err, hint: x.hint(a, err, endpoints)}
	}
	return client, nil
}

// logger is silent but under --debug: the reason for a failure comes once, in the error and its hint.
func (a *app) logger() *zap.Logger {
	if !a.set.debug {
		return zap.NewNop()
	}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(a.diag), zap.DebugLevel)).Named("etcd-client")
}

func (a *app) debug(fs *pflag.FlagSet) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2WithVerbosity(os.Stderr, os.Stderr, os.Stderr, 4))
	showSettings(a.diag, fs)
}

// showSettings prints the global flags, but for what nobody should see who reads along.
func showSettings(w io.Writer, fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		value := f.Value.String()
		if secret(f.Name) && value != "" {
			value = "(not shown)"
		}
		fmt.Fprintf(w, "%s=%v\n", envName(f.Name), value)
	})
}

// timed gives the context of one command, limited by --command-timeout.
func (a *app) timed() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), a.set.commandTimeout)
}

// explain is the error for a call that failed: its text alone is etcd's, the hint says what is wrong with the endpoints.
func (a *app) explain(exit int, err error) error {
	return &exitError{status: exit, err: err, hint: a.hint(err, a.set.endpoints)}
}

// hint says what may be behind an error.
func (a *app) hint(err error, endpoints []string) string {
	return a.set.access.hint(a, err, endpoints)
}

// hint looks at the endpoints after a time-out or a lost connection.
func (x *access) hint(a *app, err error, endpoints []string) string {
	for _, h := range []string{memberHint(err), authHint(err)} {
		if h != "" {
			return h
		}
	}
	code := status.Code(err)
	if !errors.Is(err, context.DeadlineExceeded) && code != codes.DeadlineExceeded && code != codes.Unavailable {
		return ""
	}
	var lines []string
	reached := 0
	for i, ep := range endpoints {
		if i == probeEndpointsMax {
			break
		}
		network, address := socketOf(ep)
		conn, derr := net.DialTimeout(network, address, probeTimeout)
		if derr != nil {
			lines = append(lines, fmt.Sprintf("%s cannot be reached: %v", ep, derr))
			continue
		}
		reached++
		if trouble := tlsTrouble(conn, ep, x.tls()); trouble != "" {
			lines = append(lines, ep+": "+trouble)
		}
		closeQuietly(conn)
	}
	switch {
	case reached == 0 && len(lines) > 0:
		lines = append(lines, "is etcd running there? --endpoints or ETCDCTL_ENDPOINTS says where to look")
	case reached > 0 && len(lines) == 0 && (errors.Is(err, context.DeadlineExceeded) || code == codes.DeadlineExceeded):
		lines = append(lines, fmt.Sprintf("no answer within %v (--command-timeout); see whether the members have a leader: etcdctl endpoint status", a.set.commandTimeout))
	}
	return strings.Join(lines, "\n")
}

// socketOf gives network and address of an endpoint for net.Dial.
func socketOf(endpoint string) (network, address string) {
	for _, scheme := range []string{"unix:", "unixs:"} {
		if rest, ok := strings.CutPrefix(endpoint, scheme); ok {
			return "unix", strings.TrimPrefix(rest, "//")
		}
	}
	_, address, ok := strings.Cut(endpoint, "://")
	if !ok {
		address = endpoint
	}
	address, _, _ = strings.Cut(address, "/")
	return "tcp", address
}

// closeQuietly closes what is not needed any more, where a failure changes nothing for the user.
func closeQuietly(c io.Closer) { _ = c.Close() }
