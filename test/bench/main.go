// Command bench compares Keelson with a real etcd, in turn on one machine: `make bench` builds both and runs it.
//
// For every piece of work and every round it starts one server in a fresh data directory, loads it, and measures rate,
// latencies, the server's CPU time an operation, fdatasyncs and memory; then the other server. Rounds alternate, so
// that both meet the same machine. It prints medians with their spread and ratios, and appends a JSON line a run to
// bench.jsonl. The floors are servers that answer the same messages without doing anything.
//
//	main.go     flags and rounds
//	works.go    what is measured; watches.go, the kinds that need streams; large.go, a large keyspace
//	load.go     closed and open loops; link.go, connections; json.go, those of HTTP
//	secure.go   TLS, users and tokens; guess.go, passwords right and wrong
//	process.go  servers, and what /proc and /metrics tell of them; floor.go, the floors
//	table.go    results; stats.go, their statistics
//
// Requests go out through grpc-go with a codec that neither encodes nor decodes: client/v3 would spend more CPU than
// the server, on the cores that it shares with it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// bench is what the command line asks for.
type bench struct {
	bin, peer   string // directories of Keelson's and etcd's programs
	dir, out    string
	only        []string
	servers     []string
	serverFlags []string
	profiles    string
	duration    time.Duration
	rate        float64
	roundCount  int
	large       struct{ keys, value int }
	secure      struct{ tls, auth bool }
	quick       bool
	results     results
}

// Of one run by time, and of all runs of a kind, unless flags say otherwise.
const (
	runTime      = 8 * time.Second
	quickTime    = 300 * time.Millisecond
	roundsNormal = 3
)

func main() {
	b := &bench{}
	var only, servers, extra, floorKind, floorListen string
	flag.StringVar(&b.bin, "bin", "bin", "`directory` with Keelson's etcd")
	flag.StringVar(&b.peer, "peer", "bin/peers/etcd37", "`directory` with the etcd to compare with")
	flag.StringVar(&b.dir, "dir", "", "where data directories are made (default: the system's temporary directory)")
	flag.StringVar(&b.out, "out", "bench.jsonl", "file that gets a JSON line a run; empty: none")
	flag.StringVar(&only, "work", "", "names of work, separated by commas (default: all but the slow ones and those of users: idle, behind, large, authenticate, users64, users1000, guess, proxyput, proxyget)")
	flag.StringVar(&servers, "servers", "keelson,etcd,floors", "what to measure")
	flag.StringVar(&extra, "flags", "", "further flags of both servers, separated by blanks")
	flag.StringVar(&b.profiles, "profiles", "", "`directory` for CPU profiles of Keelson; needs -flags --enable-pprof")
	flag.DurationVar(&b.duration, "time", runTime, "length of a run")
	flag.Float64Var(&b.rate, "rate", 0, "requests a second: an open loop; 0: a closed loop")
	flag.IntVar(&b.roundCount, "rounds", 0, "rounds (default: 3)")
	flag.IntVar(&b.large.keys, "keys", largeKeys, "keys of the work large")
	flag.IntVar(&b.large.value, "value", valueBytes, "bytes of a value of the work large, a multiple of 8")
	flag.BoolVar(&b.secure.tls, "tls", false, "clients reach both servers by TLS, with the same certificates; without floors")
	flag.BoolVar(&b.secure.auth, "auth", false, "both servers have users, and each connection a token of root's; without floors")
	flag.BoolVar(&b.quick, "quick", false, "only see whether everything runs: all work, one short round")
	flag.StringVar(&floorKind, "floor-kind", "", "serve a floor of this kind (used by this program itself)")
	flag.StringVar(&floorListen, "floor-listen", "", "where the floor listens")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage of bench:")
		flag.PrintDefaults()
		for _, w := range works() {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-10s %s\n", w.name, w.about)
		}
	}
	flag.Parse()
	var err error
	if floorKind != "" {
		err = serveFloor(floorKind, floorListen)
	} else {
		b.serverFlags = strings.Fields(extra)
		b.choose(only, servers)
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err = b.run(ctx)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// choose fills in what to measure.
func (b *bench) choose(only, servers string) {
	b.only = strings.Split(only, ",")
	if only == "" {
		b.only = nil
		for _, w := range works() {
			if !w.apart || b.quick {
				b.only = append(b.only, w.name)
			}
		}
	}
	for _, s := range strings.Split(servers, ",") {
		if s == "floors" && (b.secure.tls || b.secure.auth) {
			continue
		}
		if s == "floors" {
			b.servers = append(b.servers, floorStock, floorOurs)
		} else {
			b.servers = append(b.servers, s)
		}
	}
	if b.quick {
		b.duration = quickTime
		b.serverFlags = append(b.serverFlags, "--bcrypt-cost=4") // etcd checks passwords for a minute else
	}
}

// rounds gives how many rounds to run where n are usual.
func (b *bench) rounds(n int) int {
	if b.quick {
		return 1
	}
	if b.roundCount > 0 {
		return b.roundCount
	}
	return n
}

func (b *bench) run(ctx context.Context) error {
	all := works()
	for _, name := range b.only {
		i := slices.IndexFunc(all, func(w work) bool { return w.name == name })
		if i < 0 {
			return fmt.Errorf("bench: no work is called %q; -help lists them", name)
		}
		w := &all[i]
		rounds := b.rounds(roundsNormal)
		if w.once {
			rounds = 1
		}
		for round := range rounds {
			for _, server := range b.servers {
				isFloor := server == floorStock || server == floorOurs
				if isFloor && (!w.floor || round > 0 || w.load.count > 0) {
					continue
				}
				if err := b.one(ctx, w, server, round); err != nil {
					return fmt.Errorf("bench: %s on %s: %w", w.name, server, err)
				}
			}
		}
	}
	fmt.Println()
	b.results.print(os.Stdout)
	return nil
}

// one measures one work on one server.
func (b *bench) one(ctx context.Context, w *work, server string, round int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := b.start(server)
	if err != nil {
		return err
	}
	defer p.stop()
	if b.secure.auth {
		if err := p.enableAuth(ctx); err != nil {
			return err
		}
	}
	m, err := w.measure(ctx, b, p)
	if err != nil {
		return err
	}
	x := result{Time: time.Now().UTC(), Commit: commit(), CPUs: runtime.NumCPU(), Work: w.name, Server: server, Round: round, measure: m}
	b.results.add(x)
	fmt.Printf("%-10s %-16s %d: %7.0f/s  p50 %7.2f  p99 %7.2f  max %7.2f ms  %6.1f µs/op  %d errors  %s\n",
		w.name, server, round, m.Rate, m.P50, m.P99, m.Max, m.CPU, m.Errors, extras(m.Extra))
	if b.out == "" || b.quick {
		return nil
	}
	return x.appendTo(b.out)
}

// complain tells of what does not spoil a measurement.
func (b *bench) complain(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// commit names the source that this program was built from, where the build knows it.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
