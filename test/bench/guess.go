package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"
)

const (
	// usersAdded are the users whose passwords are asked for, right and wrong.
	usersAdded = 20
	// guessRate is how many wrong passwords a second are offered.
	guessRate = 200
	// guessRounds is how often the puts are measured alone and beside the guesses.
	guessRounds = 3
)

func userName(n int) string { return fmt.Sprintf("user%02d", n%usersAdded) }

// addUsers enables users and adds some.
func addUsers(ctx context.Context, b *bench, p *process) error {
	if err := p.enableAuth(ctx); err != nil {
		return err
	}
	l, err := p.dial(1)
	if err != nil {
		return err
	}
	defer l.close()
	for n := range usersAdded {
		if err := l.call(ctx, pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: userName(n), Password: password}, &pb.AuthUserAddResponse{}); err != nil {
			return fmt.Errorf("bench: add a user: %w", err)
		}
	}
	return nil
}

func nextAuthenticate(_, i int) request {
	return request{pb.Auth_Authenticate_FullMethodName, encode(&pb.AuthenticateRequest{Name: userName(i), Password: password})}
}

// guesses are wrong passwords that are offered at a fixed rate, whatever becomes of the ones before.
type guesses struct {
	running sync.WaitGroup
	mu      sync.Mutex // guards the rest
	// checked were found wrong, refused were too many, failed ended otherwise.
	offered, checked, refused, failed int
	slowest                           time.Duration
}

// offer guesses until ctx ends and waits for the last answer.
func (g *guesses) offer(ctx context.Context, l links) {
	start := time.Now()
	for i := 0; waitUntil(ctx, start.Add(time.Duration(i)*time.Second/guessRate)) && ctx.Err() == nil; i++ {
		g.running.Go(func() {
			began := time.Now()
			once, cancel := context.WithTimeout(context.Background(), callTime)
			defer cancel()
			at := i % len(l)
			wrong := &pb.AuthenticateRequest{Name: userName(i), Password: fmt.Sprint("wrong", i)}
			g.note(l[at:at+1].call(once, pb.Auth_Authenticate_FullMethodName, wrong, &pb.AuthenticateResponse{}), time.Since(began))
		})
	}
	g.running.Wait()
}

func (g *guesses) note(err error, took time.Duration) {
	text := status.Convert(err).Message()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offered++
	switch {
	case strings.Contains(text, status.Convert(rpctypes.ErrGRPCAuthFailed).Message()):
		g.checked++
	case strings.Contains(text, status.Convert(rpctypes.ErrGRPCRequestTooManyRequests).Message()):
		g.refused++
	default:
		g.failed++
	}
	g.slowest = max(g.slowest, took)
}

// guess measures puts at a fixed rate, in turn alone and beside wrong passwords. The figures are the medians of the rounds.
func guess(ctx context.Context, b *bench, p *process) (measure, error) {
	l := load{conns: 16, clients: 256, rate: behindRate, duration: b.duration, warm: b.duration / 5, next: nextPut}
	if b.rate > 0 {
		l.rate = b.rate
	}
	var control, beside []measure
	for range b.rounds(guessRounds) {
		alone, err := l.run(ctx, p)
		if err != nil {
			return measure{}, err
		}
		m, err := guessed(ctx, &l, p)
		if err != nil {
			return measure{}, err
		}
		// The server's time beyond that of the puts, in cores.
		cores := func(m measure) float64 { return ratio(m.CPU*float64(m.Ops)/1e6, m.Seconds) }
		m.Extra["guess_cores"] = cores(m) - cores(alone)
		control, beside = append(control, alone), append(beside, m)
	}
	out, c := medianOf(beside), medianOf(control)
	out.Extra["control_p99_ms"], out.Extra["p99_to_control"] = c.P99, ratio(out.P99, c.P99)
	return out, nil
}

// guessed runs the load beside guesses, which begin before it and end with it.
func guessed(ctx context.Context, l *load, p *process) (measure, error) {
	conns, err := p.connect(16)
	if err != nil {
		return measure{}, err
	}
	defer conns.close()
	until, stop := context.WithCancel(ctx)
	var g guesses
	var offering sync.WaitGroup
	start := time.Now()
	offering.Go(func() { g.offer(until, conns) })
	m, err := l.run(ctx, p)
	stop()
	took := time.Since(start)
	offering.Wait()
	if err != nil {
		return measure{}, err
	}
	m.Extra = map[string]float64{
		"offered_per_s": float64(g.offered) / took.Seconds(), "checked_per_s": float64(g.checked) / took.Seconds(),
		"refused_share": ratio(float64(g.refused), float64(g.offered)), "failed": float64(g.failed), "slowest_guess_ms": g.slowest.Seconds() * 1000,
	}
	return m, nil
}
