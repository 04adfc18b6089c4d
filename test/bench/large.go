package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	largeKeys    = 500_000
	largeRate    = 1_000 // puts a second while something else goes on
	largeRounds  = 3     // of what can be repeated on one server
	largeWatches = 200   // each of as many keys as the others: every put is one event
	largeStreams = 20
	disturbTime  = 5 * time.Minute
	snapshotMark = "snapshot"
)

// large measures what a large keyspace costs: every key is written twice, then memory and the time of a restart are
// taken, and the longest put at a fixed rate, seen by watchers, beside a snapshot, a compaction and a defragmentation, each
// with a control of equal length and nothing beside it.
func large(ctx context.Context, b *bench, p *process) (measure, error) {
	keys := b.less(b.large.keys)
	extra := map[string]float64{}
	memory := func(when string) error {
		waitUntil(ctx, time.Now().Add(min(settleTime, b.duration)))
		g, err := p.gauge()
		extra[when+"_anon_mib"], extra[when+"_file_mib"] = g.anon, g.file
		return err
	}
	l := load{conns: 100, clients: 1000, count: 2 * keys, next: func(_, i int) request {
		return request{pb.KV_Put_FullMethodName, encode(b.largePut(i % keys))}
	}}
	m, err := l.run(ctx, p)
	if err == nil && m.Errors > 0 {
		err = fmt.Errorf("bench: %d puts failed", m.Errors)
	}
	if err != nil {
		return m, err
	}
	m.Extra = extra
	d := &disturbance{b: b, p: p, keys: keys, extra: extra, load: load{conns: 16, clients: 64, rate: largeRate, next: func(int, int) request {
		return request{pb.KV_Put_FullMethodName, encode(b.largePut(rand.IntN(keys)))}
	}}}
	if b.rate > 0 {
		d.load.rate = b.rate
	}
	rounds := b.rounds(largeRounds)
	return m, inOrder(
		func() error { return memory("load") },
		func() error { return d.measure(ctx, snapshotMark, rounds, backup) },
		func() error { return memory(snapshotMark) },
		func() error { return restart(p, extra) },
		func() error { return memory("restart") },
		func() error { return d.measure(ctx, "compact", 1, compactAll) },
		func() error { return d.measure(ctx, "defrag", rounds, defragment) },
		func() error {
			info, err := os.Stat(filepath.Join(p.dir, "data", "member", "snap", "db"))
			if err == nil {
				extra["defrag_file_size_mib"] = float64(info.Size()) / (1 << 20)
			}
			return err
		},
	)
}

func (b *bench) largePut(n int) *pb.PutRequest {
	return &pb.PutRequest{Key: keyOf(n), Value: randomValue(b.large.value)}
}

// watchAll watches all keys, each by one of largeWatches watchers.
func watchAll(ctx context.Context, conns links, keys int) (*watchers, error) {
	w := &watchers{}
	for i := range largeStreams {
		s, err := openWatch(ctx, conns[i])
		for k := i; k < largeWatches && err == nil; k += largeStreams {
			err = s.watch(&pb.WatchCreateRequest{Key: keyOf(k * keys / largeWatches), RangeEnd: keyOf((k + 1) * keys / largeWatches)})
		}
		if err != nil {
			w.end()
			return nil, err
		}
		w.read(s)
	}
	return w, nil
}

// inOrder runs steps up to the first that fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// restart stops the server, starts it again and notes how long it took until a linearizable read was answered.
func restart(p *process, extra map[string]float64) error {
	p.end()
	start := time.Now()
	err := p.launch()
	extra["restart_ms"] = time.Since(start).Seconds() * 1000
	return err
}

// A disturbance is what puts are measured beside.
type disturbance struct {
	b     *bench
	p     *process
	keys  int
	load  load
	extra map[string]float64
}

// measure runs the load beside what disturb does, then for as long without it, and notes the medians of the rounds:
// the longest puts, and how long disturb took.
func (d *disturbance) measure(ctx context.Context, name string, rounds int, disturb func(context.Context, links) error) error {
	conns, err := d.p.dial(largeStreams)
	if err != nil {
		return err
	}
	defer conns.close()
	watching, err := watchAll(ctx, conns, d.keys)
	if err != nil {
		return err
	}
	defer watching.end()
	var longest, control, p99, took []float64
	for range rounds {
		beside, n, err := d.beside(ctx, disturb)
		if err != nil {
			return fmt.Errorf("bench: %s: %w", name, err)
		}
		alone := d.load
		alone.duration = time.Duration(beside.Seconds * float64(time.Second))
		c, err := alone.run(ctx, d.p)
		if err != nil {
			return err
		}
		longest, control = append(longest, beside.Max), append(control, c.Max)
		p99, took = append(p99, beside.P99), append(took, n.Seconds())
	}
	d.extra[name+"_max_ms"], d.extra[name+"_control_ms"] = spreadOf(longest).median, spreadOf(control).median
	d.extra[name+"_p99_ms"], d.extra[name+"_s"] = spreadOf(p99).median, spreadOf(took).median
	return nil
}

// beside runs the load for the time of a run, and longer if what disturb does after a fifth of it takes longer.
func (d *disturbance) beside(ctx context.Context, disturb func(context.Context, links) error) (m measure, took time.Duration, err error) {
	conns, err := d.p.dial(1)
	if err != nil {
		return m, 0, err
	}
	defer conns.close()
	ctx, cancel := context.WithTimeout(ctx, disturbTime)
	defer cancel()
	ended := make(chan error, 1)
	begin := time.Now()
	go func() {
		waitUntil(ctx, begin.Add(d.b.duration/5))
		start := time.Now()
		err := disturb(ctx, conns)
		took = time.Since(start)
		waitUntil(ctx, begin.Add(d.b.duration))
		cancel()
		ended <- err
	}()
	l := d.load
	l.duration = disturbTime
	m, err = l.run(ctx, d.p)
	cancel()
	return m, took, errors.Join(err, <-ended)
}

// backup reads a snapshot to its end.
func backup(ctx context.Context, l links) error {
	s, err := l[0].NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, pb.Maintenance_Snapshot_FullMethodName)
	if err != nil {
		return err
	}
	if err := errors.Join(s.SendMsg(encode(&pb.SnapshotRequest{})), s.CloseSend()); err != nil {
		return err
	}
	for {
		var a answer
		if err := s.RecvMsg(&a); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// compactAll compacts at the present revision and waits until the disk has it.
func compactAll(ctx context.Context, l links) error {
	rev, err := revision(ctx, l)
	if err != nil {
		return err
	}
	return l.call(ctx, pb.KV_Compact_FullMethodName, &pb.CompactionRequest{Revision: rev, Physical: true}, &pb.CompactionResponse{})
}

func defragment(ctx context.Context, l links) error {
	return l.call(ctx, pb.Maintenance_Defragment_FullMethodName, &pb.DefragmentRequest{}, &pb.DefragmentResponse{})
}
