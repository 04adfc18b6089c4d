package server

import (
	"context"
	"errors"
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
)

// leaderFinder does at the leader what only the leader can do.
type leaderFinder struct {
	loop    *raftloop.Loop
	cluster *cluster.Cluster
	caller  Caller
	clock   clock.Clock
	timeout time.Duration
}

// ask runs here if this member leads, there at the leader else, again and again until one of them gave an answer that
// does not depend on who leads, or time is up.
func (f *leaderFinder) ask(ctx context.Context, here func(context.Context) error, there func(context.Context, Caller, []string) error) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	for {
		changed := f.loop.LeaderChanged()
		st := f.loop.Status()
		var err error
		switch {
		case st.Lead == 0:
			err = ErrNoLeader
		case st.Lead == st.ID:
			err = here(ctx)
		default:
			if m, ok := f.cluster.State().Member(st.Lead); ok {
				err = there(ctx, f.caller, m.PeerURLs)
			} else {
				err = ErrNoLeader
			}
		}
		if err == nil || errors.Is(err, lease.ErrNotFound) {
			return err
		}
		if !f.pause(ctx, changed) {
			if errors.Is(ctx.Err(), context.Canceled) {
				return ErrCanceled
			}
			return ErrTimeout
		}
	}
}

// pause waits a moment or for another leader. It tells whether to go on.
func (f *leaderFinder) pause(ctx context.Context, changed <-chan struct{}) bool {
	t := f.clock.NewTimer(leaderRetry)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
		return false
	case <-f.loop.Done():
		return false
	}
	return true
}
