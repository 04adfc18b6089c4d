package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
)

var (
	// ErrRemoved is why a member stops that was removed from its cluster.
	ErrRemoved = errors.New("the member has been permanently removed from the cluster")
	// ErrStaleDirectory is returned for the data directory of a member that was removed.
	ErrStaleDirectory = fmt.Errorf("the data directory is a removed member's: %w; to come back it needs a new place: add it with "+
		"`etcdctl member add`, then start it with an empty data directory and --initial-cluster-state existing", ErrRemoved)
)

// departureGrace is how long a leader that was removed goes on, so that the others hear that its removal is committed:
// etcd's.
const departureGrace = time.Second

// departure ends this member once it was removed. Leaders hand over before their removal is proposed; one that could not,
// for want of somebody to take over, stays a while.
type departure struct {
	loop  *raftloop.Loop
	clock clock.Clock
	fail  func(error)
	// told holds a token once this member was removed.
	told chan struct{}
}

// watchOwnPlace makes what tells this member that it was removed, or that it is not who it takes itself for.
func watchOwnPlace(m *Member) {
	o, d := m.data, m.deps
	m.workers.departure = &departure{loop: m.loop, clock: d.Clock, fail: m.life.fail, told: make(chan struct{}, 1)}
	if o.unproven {
		m.workers.vetting = &vetting{
			id: o.id, clusterID: o.clusterID, cluster: o.state.Cluster, loop: m.loop, caller: d.Caller, clock: d.Clock, logger: d.Logger, fail: m.life.fail, over: make(chan struct{}),
		}
	}
}

// begin is called by the apply thread.
func (d *departure) begin() {
	select {
	case d.told <- struct{}{}:
	default:
	}
}

func (d *departure) run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-d.told:
	}
	if st := d.loop.Status(); st.Lead == st.ID {
		t := d.clock.NewTimer(departureGrace)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	d.fail(ErrRemoved)
}
