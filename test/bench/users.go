package main

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// usersRounds is how often puts are measured without users and with them.
const usersRounds = 5

// users measures puts of one process with users and without, in turn: two processes differ by more than what a token costs. The
// figures are the medians with users, those without are beside them.
func users(l load) func(ctx context.Context, b *bench, p *process) (measure, error) {
	return func(ctx context.Context, b *bench, p *process) (measure, error) {
		l.duration, l.warm = b.duration, b.duration/5
		var off, on []measure
		for range b.rounds(usersRounds) {
			for _, with := range []bool{false, true} {
				if err := p.switchAuth(ctx, with); err != nil {
					return measure{}, err
				}
				m, err := l.run(ctx, p)
				if err != nil {
					return measure{}, err
				}
				m.Extra = map[string]float64{}
				if with {
					on = append(on, m)
				} else {
					off = append(off, m)
				}
			}
		}
		out, c := medianOf(on), medianOf(off)
		out.Extra["off_rate"], out.Extra["rate_to_off"] = c.Rate, ratio(out.Rate, c.Rate)
		out.Extra["off_cpu_us_op"], out.Extra["cpu_to_off"] = c.CPU, ratio(out.CPU, c.CPU)
		out.Extra["off_load_us_op"] = c.LoadCPU
		return out, nil
	}
}

// switchAuth has the server ask for users, or not.
func (p *process) switchAuth(ctx context.Context, with bool) error {
	if p.auth == with {
		return nil
	}
	if with {
		return p.enableAuth(ctx)
	}
	l, err := p.dial(1)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.call(ctx, pb.Auth_AuthDisable_FullMethodName, &pb.AuthDisableRequest{}, &pb.AuthDisableResponse{}); err != nil {
		return fmt.Errorf("bench: %s: disable users: %w", p.name, err)
	}
	p.auth, p.tokens = false, nil // their tokens end with them
	return nil
}
