// Command etcd is one member of a cluster: it reads its configuration, builds the member, serves it until it is told to stop
// or cannot go on, and stops it in order.
//
//	main.go     command line, log, exit status
//	run.go      the member's life: build, start, serve, stop
//	commands.go what else the program does; gateway.go is a proxy, discovery.go a service for new clusters
//	discover.go how a member finds the others before its first start
//	ports.go    sockets and the servers on them; portpair.go has those of what is no member
//	tls.go      certificates for ports and calls
//	metrics.go  what /metrics shows
//	disk.go     the disk; disk_faulty.go is one that fails on demand, for tests
//	heap.go     when the garbage collector runs
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"

	"keelson/internal/config"
	"keelson/internal/kit/logging"
	"keelson/internal/kit/release"
)

// Exit statuses, as etcd's.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	heap := heapOf(os.Args)
	collector.start(heap)
	go releaseWhenQuiet(heap.spare)
	os.Exit(command(os.Args, os.Environ(), os.Stdout, os.Stderr))
}

// command does what the command line says and answers the exit status.
func command(args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 1 {
		if build, ok := subcommands[args[1]]; ok {
			return runSubcommand(build, args[1:], stdout, stderr)
		}
	}
	cfg, warnings, err := config.Parse(args[1:], environ, os.ReadFile)
	switch {
	case errors.Is(err, config.ErrHelp):
		fmt.Fprint(stdout, config.Help())
		return exitOK
	case errors.Is(err, config.ErrVersion):
		printVersion(stdout)
		return exitOK
	case errors.Is(err, config.ErrUsage):
		fmt.Fprintf(stderr, "etcd: %v\n\nSee etcd --help.\n", err)
		return exitUsage
	}
	log, done, logErr := newLogger(cfg)
	if logErr != nil {
		fmt.Fprintf(stderr, "etcd: %v\n", logErr)
		return exitFailed
	}
	defer func() { _ = done() }() // there is nowhere left to tell
	log.Info("Running: ", zap.Strings("args", shown(args)))
	for _, w := range warnings {
		log.Warn(w)
	}
	if err != nil {
		log.Error("failed to verify flags", zap.Error(err))
		return exitFailed
	}
	// The JSON gateway would write a line for every client that sends no JSON or goes away early.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := run(cfg, log, signals); err != nil {
		log.Error("the member failed", zap.Error(err))
		return exitFailed
	}
	return exitOK
}

// newLogger builds the logger of a configuration, or, without one, of the defaults.
func newLogger(cfg *config.Config) (*zap.Logger, func() error, error) {
	if cfg == nil {
		return logging.New(logging.Options{})
	}
	l := cfg.Logging
	return logging.New(logging.Options{Level: l.Level, Format: l.Format, Outputs: l.Outputs, Rotate: l.Rotate, Rotation: l.Rotation})
}

func printVersion(w io.Writer) {
	fmt.Fprintf(w, "etcd Version: %s\n", version.Version)
	fmt.Fprintf(w, "Git SHA: %s\n", release.Commit())
	fmt.Fprintf(w, "Go Version: %s\n", runtime.Version())
	fmt.Fprintf(w, "Go OS/Arch: %s/%s\n", runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(w, "Keelson %s\n", release.Version)
}
