package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	fanoutKeys    = 16
	fanoutStreams = 64 // each with one watcher a key
	fanoutPuts    = 20_000

	idleWatchers = 10_000
	idleStreams  = 100
	idleConns    = 10

	behindRevs   = 500_000
	behindKeys   = 10_000
	behindRate   = 2_000 // puts a second: a fifth of what etcd can do on two cores
	behindRounds = 5

	// quickCount stands for all of these counts in quick mode.
	quickCount = 2_000
	// settleTime is how long a server gets to take in what was asked before its memory is read.
	settleTime = 2 * time.Second
	// catchUpTime bounds the wait for the last event.
	catchUpTime = 2 * time.Minute
)

var errEventsMissing = errors.New("bench: events are missing")

// less gives n, or less where everything only has to run.
func (b *bench) less(n int) int {
	if b.quick {
		return min(n, quickCount)
	}
	return n
}

// readEvents counts the events of a stream until it ends.
func readEvents(s *watchStream, scan *eventScan) error {
	for {
		a := answer{keep: true}
		if err := s.RecvMsg(&a); err != nil {
			return err
		}
		if err := scan.add(a.body); err != nil {
			return err
		}
	}
}

// waitEvents waits until the streams together have seen n events.
func waitEvents(ctx context.Context, n int, scans []*eventScan) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	for {
		seen := 0
		for _, s := range scans {
			n, err := s.seen()
			if err != nil {
				return err
			}
			seen += n
		}
		if seen == n {
			return nil
		}
		if seen > n || !waitUntil(ctx, time.Now().Add(readyStep)) {
			return fmt.Errorf("%w: %d came, %d were due", errEventsMissing, seen, n)
		}
	}
}

// watchers are streams with readers, which end joins.
type watchers struct {
	streams []*watchStream
	scans   []*eventScan
	reading sync.WaitGroup
}

func (w *watchers) read(s *watchStream) {
	scan := &eventScan{last: map[uint64]uint64{}}
	w.streams, w.scans = append(w.streams, s), append(w.scans, scan)
	w.reading.Go(func() { scan.end(readEvents(s, scan)) })
}

func (w *watchers) end() {
	for _, s := range w.streams {
		s.cancel()
	}
	w.reading.Wait()
}

// fanout measures puts that many watchers see. It counts CPU and rate over the delivery of all events.
func fanout(ctx context.Context, b *bench, p *process) (measure, error) {
	conns, err := p.dial(16)
	if err != nil {
		return measure{}, err
	}
	defer conns.close()
	var w watchers
	defer w.end()
	for i := range fanoutStreams {
		s, err := openWatch(ctx, conns[i%len(conns)])
		if err != nil {
			return measure{}, err
		}
		for k := range fanoutKeys {
			if err := s.watch(&pb.WatchCreateRequest{Key: keyOf(k)}); err != nil {
				return measure{}, err
			}
		}
		w.read(s)
	}
	l := load{conns: 16, clients: 64, count: b.less(fanoutPuts), next: func(_, i int) request {
		return request{pb.KV_Put_FullMethodName, encode(putOf(i % fanoutKeys))}
	}}
	before, err := p.gauge()
	if err != nil {
		return measure{}, err
	}
	m, err := l.run(ctx, p)
	if err != nil {
		return m, err
	}
	events := m.Ops * fanoutStreams
	if err := waitEvents(ctx, events, w.scans); err != nil {
		return m, err
	}
	after, err := p.gauge()
	if err != nil {
		return m, err
	}
	m.CPU = (after.cpu - before.cpu).Seconds() * 1e6 / float64(m.Ops)
	seconds := after.at.Sub(before.at).Seconds()
	m.Extra = map[string]float64{"events_per_s": float64(events) / seconds, "cpu_us_event": m.CPU / fanoutStreams}
	return m, nil
}

// idle measures the memory of watchers that nothing happens to.
func idle(ctx context.Context, b *bench, p *process) (measure, error) {
	conns, err := p.dial(idleConns)
	if err != nil {
		return measure{}, err
	}
	defer conns.close()
	if err := warmUp(ctx, p, b.less(20_000)); err != nil {
		return measure{}, err
	}
	before, err := p.gauge()
	if err != nil {
		return measure{}, err
	}
	n := b.less(idleWatchers)
	for i := range idleStreams {
		s, err := openWatch(ctx, conns[i%len(conns)])
		if err != nil {
			return measure{}, err
		}
		defer s.cancel()
		for k := range n / idleStreams {
			if err := s.watch(&pb.WatchCreateRequest{Key: keyOf(keySpace + i*n + k)}); err != nil {
				return measure{}, err
			}
		}
	}
	waitUntil(ctx, time.Now().Add(settleTime))
	after, err := p.gauge()
	if err != nil {
		return measure{}, err
	}
	m := sum(nil, before, after)
	m.Extra = map[string]float64{"added_anon_mib": after.anon - before.anon, "added_file_mib": after.file - before.file}
	return m, nil
}

// warmUp puts keys so that a server's heap has its working size before memory is compared.
func warmUp(ctx context.Context, p *process, n int) error {
	l := load{conns: 16, clients: 64, count: n, next: func(_, i int) request {
		return request{pb.KV_Put_FullMethodName, encode(putOf(i % behindKeys))}
	}}
	m, err := l.run(ctx, p)
	if err == nil && m.Errors > 0 {
		err = fmt.Errorf("bench: %d puts failed", m.Errors)
	}
	return err
}

// behind measures puts at a fixed rate, in turn alone and beside a watcher that starts at the first revision and one
// that never reads. The figures are the medians of the rounds.
func behind(ctx context.Context, b *bench, p *process) (measure, error) {
	revs := b.less(behindRevs)
	if err := warmUp(ctx, p, revs); err != nil {
		return measure{}, err
	}
	start, err := p.gauge()
	if err != nil {
		return measure{}, err
	}
	var control, beside []measure
	l := load{conns: 16, clients: 256, rate: behindRate, duration: b.duration, warm: b.duration / 5, next: nextPut}
	if b.rate > 0 {
		l.rate = b.rate
	}
	total, anon, file := revs, 0.0, 0.0
	for range b.rounds(behindRounds) {
		waitUntil(ctx, time.Now().Add(settleTime))
		alone, err := l.run(ctx, p)
		if err != nil {
			return measure{}, err
		}
		control = append(control, alone)
		m, took, err := disturbed(ctx, &l, p)
		if err != nil {
			return measure{}, err
		}
		m.Extra = map[string]float64{"late_s": took.Seconds()}
		beside = append(beside, m)
		anon, file = max(anon, m.Anon), max(file, m.File)
		total += alone.Ops + m.Ops
	}
	out := medianOf(beside)
	c := medianOf(control)
	out.Extra["control_p99_ms"], out.Extra["control_max_ms"] = c.P99, c.Max
	out.Extra["p99_to_control"] = ratio(out.P99, c.P99)
	out.Extra["added_anon_mib"], out.Extra["added_file_mib"] = anon-start.anon, file-start.file
	out.Extra["revisions"] = float64(total)
	return out, nil
}

// disturbed runs the load beside the two watchers, then waits until the late one has every event. It answers how long
// that took from its start.
func disturbed(ctx context.Context, l *load, p *process) (measure, time.Duration, error) {
	conns, err := p.dial(2)
	if err != nil {
		return measure{}, 0, err
	}
	defer conns.close()
	all := &pb.WatchCreateRequest{Key: []byte("bench/"), RangeEnd: []byte("bench0"), StartRevision: 1}
	mute, err := openWatch(ctx, conns[0])
	if err != nil {
		return measure{}, 0, err
	}
	defer mute.cancel()
	late, err := openWatch(ctx, conns[1])
	if err != nil {
		return measure{}, 0, err
	}
	if err := errors.Join(mute.ask(all), late.ask(all)); err != nil {
		return measure{}, 0, err
	}
	began := time.Now()
	var w watchers
	defer w.end()
	w.read(late)
	m, err := l.run(ctx, p)
	if err != nil {
		return m, 0, err
	}
	rev, err := revision(ctx, conns[1:])
	if err != nil {
		return m, 0, err
	}
	// Revision 2 is the first put's, and every put since is one event.
	if err = waitEvents(ctx, int(rev-1), w.scans); errors.Is(err, errEventsMissing) && p.name != keelson {
		fmt.Fprintln(os.Stderr, err) // it is for etcd to be measured, for us to be right
		err = nil
	}
	return m, time.Since(began), err
}

func revision(ctx context.Context, l links) (int64, error) {
	var r pb.RangeResponse
	err := l.call(ctx, pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("x")}, &r)
	return r.GetHeader().GetRevision(), err
}

// keepAlive measures renewals: each client has a lease and a stream of its own.
func keepAlive(ctx context.Context, b *bench, p *process) (measure, error) {
	const conns, clients = 64, 256
	l, err := p.dial(conns)
	if err != nil {
		return measure{}, err
	}
	defer l.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bodies, streams := make([]frame, clients), make([]grpc.ClientStream, clients)
	for i := range clients {
		c := l[i%conns : i%conns+1]
		var lease pb.LeaseGrantResponse
		if err := c.call(ctx, pb.Lease_LeaseGrant_FullMethodName, &pb.LeaseGrantRequest{TTL: 600}, &lease); err != nil {
			return measure{}, err
		}
		bodies[i] = encode(&pb.LeaseKeepAliveRequest{ID: lease.ID})
		streams[i], err = c[0].NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, pb.Lease_LeaseKeepAlive_FullMethodName)
		if err != nil {
			return measure{}, err
		}
	}
	before, err := p.gauge()
	if err != nil {
		return measure{}, err
	}
	until := before.at.Add(b.duration)
	senders := make([]*sender, clients)
	var running sync.WaitGroup
	for i, stream := range streams {
		s := &sender{}
		senders[i] = s
		running.Go(func() { s.renew(stream, bodies[i], until) })
	}
	running.Wait()
	after, err := p.gauge()
	if err != nil {
		return measure{}, err
	}
	return sum(senders, before, after), nil
}

func (s *sender) renew(stream grpc.ClientStream, body frame, until time.Time) {
	for due := time.Now(); due.Before(until); due = time.Now() {
		var a answer
		if errors.Join(stream.SendMsg(body), stream.RecvMsg(&a)) != nil {
			s.errors++
			return
		}
		s.taken = append(s.taken, time.Since(due))
	}
}
