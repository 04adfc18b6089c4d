package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc/metadata"
)

// A measure is one run's figures.
type measure struct {
	Ops     int                `json:"ops"`
	Errors  int                `json:"errors,omitempty"`
	Seconds float64            `json:"seconds"`
	Rate    float64            `json:"rate"`       // operations a second
	P50     float64            `json:"p50_ms"`     // milliseconds, like P99 and Max
	P99     float64            `json:"p99_ms"`     //
	Max     float64            `json:"max_ms"`     //
	CPU     float64            `json:"cpu_us_op"`  // the server's user and system time an operation, in µs
	LoadCPU float64            `json:"load_us_op"` // the generator's
	Syncs   float64            `json:"syncs"`      // fdatasyncs
	Anon    float64            `json:"anon_mib"`   // resident at the end: anonymous memory
	File    float64            `json:"file_mib"`   // and pages of files
	Extra   map[string]float64 `json:"extra,omitempty"`
}

// A request is one operation: a method, or the path of one, and its encoded argument.
type request struct {
	method string
	body   frame
}

// A load says how requests are sent. Rate 0 is a closed loop: each client waits for its answer before it sends again.
// Else it is an open loop: requests are due at a fixed rate, and a latency counts from when its request was due, so
// that a server which stalls does not slow its own examination down.
type load struct {
	conns, clients int
	rate           float64
	count          int           // requests in all; 0: as many as duration allows
	duration       time.Duration // of the part that is measured, unless count is set
	warm           time.Duration // before it, not measured
	json           bool          // over HTTP, a connection for each client
	next           func(client, i int) request
}

// likeClients has each call say what clientv3's do: one header more or less can cost a server more than what it is for, as its
// tables of headers grow in steps.
var likeClients = metadata.AppendToOutgoingContext(context.Background(), rpctypes.MetadataClientAPIVersionKey, version.APIVersion)

// callTime bounds one request. A server that takes this long has failed.
const callTime = 30 * time.Second

// sender is one client: its latencies are its own until it has ended.
type sender struct {
	by     caller
	taken  []time.Duration
	errors int
	first  error
}

// run sends the load and measures the server over it.
func (l *load) run(ctx context.Context, p *process) (measure, error) {
	if l.json {
		return l.runJSON(ctx, p)
	}
	conns, err := p.dial(l.conns)
	if err != nil {
		return measure{}, err
	}
	defer conns.close()
	callers := make([]caller, len(conns))
	for i, c := range conns {
		callers[i] = grpcConn{c}
	}
	return l.over(ctx, p, callers)
}

// over sends the load over connections.
func (l *load) over(ctx context.Context, p *process, conns []caller) (measure, error) {
	if l.warm > 0 {
		warm := *l
		warm.count, warm.duration = 0, l.warm
		if _, err := warm.send(ctx, conns); err != nil {
			return measure{}, err
		}
	}
	before, err := p.gauge()
	if err != nil {
		return measure{}, err
	}
	senders, err := l.send(ctx, conns)
	if err != nil {
		return measure{}, err
	}
	after, err := p.gauge()
	if err != nil {
		return measure{}, err
	}
	return sum(senders, before, after), nil
}

// send runs every client to its end. It fails when nothing was answered.
func (l *load) send(ctx context.Context, conns []caller) ([]*sender, error) {
	start := time.Now()
	if l.count == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, start.Add(l.duration))
		defer cancel()
	}
	var drawn atomic.Int64
	var running sync.WaitGroup
	senders := make([]*sender, l.clients)
	for c := range senders {
		s := &sender{by: conns[c%len(conns)]}
		senders[c] = s
		running.Go(func() {
			for {
				i := int(drawn.Add(1)) - 1
				// The first is sent however late it comes to that: a short run on a busy machine answers something too.
				if l.count > 0 && i >= l.count || i > 0 && ctx.Err() != nil {
					return
				}
				due := time.Now()
				if l.rate > 0 {
					due = start.Add(time.Duration(float64(i) / l.rate * float64(time.Second)))
					if !waitUntil(ctx, due) {
						return
					}
				}
				s.do(l.next(c, i), due)
			}
		})
	}
	running.Wait()
	answered := 0
	var first error
	for _, s := range senders {
		answered += len(s.taken)
		if first == nil {
			first = s.first
		}
	}
	if answered == 0 {
		if first == nil {
			first = ctx.Err()
		}
		return nil, fmt.Errorf("bench: no request was answered: %w", first)
	}
	return senders, nil
}

// waitUntil waits for a moment, and tells whether it came before the end.
func waitUntil(ctx context.Context, due time.Time) bool {
	d := time.Until(due)
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// do sends one request. It runs to its answer even when the load's time is over.
func (s *sender) do(r request, due time.Time) {
	ctx, cancel := context.WithTimeout(likeClients, callTime)
	err := s.by.call(ctx, r)
	cancel()
	if err != nil {
		s.errors++
		if s.first == nil {
			s.first = err
		}
		return
	}
	s.taken = append(s.taken, time.Since(due))
}

func sum(senders []*sender, before, after gauge) measure {
	m := measure{Seconds: after.at.Sub(before.at).Seconds(), Syncs: after.syncs - before.syncs, Anon: after.anon, File: after.file}
	var all []time.Duration
	for _, s := range senders {
		all = append(all, s.taken...)
		m.Errors += s.errors
	}
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	m.Ops = len(all)
	m.Rate = float64(m.Ops) / m.Seconds
	m.P50, m.P99, m.Max = ms(percentile(all, 0.5)), ms(percentile(all, 0.99)), ms(percentile(all, 1))
	perOp := func(d time.Duration) float64 { return ratio(d.Seconds()*1e6, float64(m.Ops)) }
	m.CPU, m.LoadCPU = perOp(after.cpu-before.cpu), perOp(after.loadCPU-before.loadCPU)
	return m
}
