package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/apply"
	"keelson/internal/storage/snap"
)

// housekeepInterval is how often unclaimed snapshots, made and received, are looked at.
const housekeepInterval = 10 * time.Second

// Start begins to take part in the cluster. Ready tells when clients may be served.
func (m *Member) Start() {
	m.life.started.Store(true)
	for _, p := range m.data.others {
		m.network.AddPeer(p.ID, p.PeerURLs)
	}
	for _, p := range m.data.state.Cluster.State().Members {
		if p.ID != m.data.id {
			m.network.AddPeer(p.ID, p.PeerURLs)
		}
	}
	if m.data.resume > 0 {
		m.workers.reclaimer.compacted(m.data.resume)
	}
	m.loop.Start()
	w := &m.workers
	for _, f := range []func(context.Context){
		w.snapshotter.run, w.reclaimer.run, w.reclaimer.compactions, w.keeper.run, w.publisher.run, w.versions.run, m.housekeep, m.advanceTicks,
		m.KV.proposer.expire, w.space.run, w.compactor.run, w.corrupt.run, m.Downgrades.run, w.departure.run, w.secrets.run,
		func(ctx context.Context) { w.stats.watchLeader(ctx, m.loop, m.deps.Clock, m.deps.Logger) },
	} {
		m.life.running.Go(func() { f(m.life.ctx) })
	}
	if w.vetting != nil {
		m.life.running.Go(func() { w.vetting.run(m.life.ctx) })
	}
}

// How long a starting member waits for a connection before it lets most of its first election time-out pass: a link that
// is coming up takes one round trip, and after this long nobody is there.
const (
	connectLook = 20 * time.Millisecond
	connectWait = 5 * time.Second
)

// advanceTicks shortens the first election: a member that has just started would otherwise sit out a whole time-out
// before it may campaign. It waits for a connection first, over which a leader that is there makes itself known.
func (m *Member) advanceTicks(ctx context.Context) {
	if !m.cfg.Raft.InitialTickAdvance {
		return
	}
	tick := m.deps.Clock.NewTicker(connectLook)
	defer tick.Stop()
	deadline := m.deps.Clock.Now().Add(connectWait)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if m.connected() || now.After(deadline) {
				m.loop.AdvanceTicks()
				return
			}
		}
	}
}

func (m *Member) connected() bool {
	for _, p := range m.data.state.Cluster.State().Members {
		if p.ID != m.data.id && !m.network.ActiveSince(p.ID).IsZero() {
			return true
		}
	}
	return false
}

func (m *Member) housekeep(ctx context.Context) {
	tick := m.deps.Clock.NewTicker(housekeepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.workers.sendables.expire(false)
			if err := snap.DropDBs(m.deps.FS, m.data.snap, m.machine.applied()); err != nil {
				m.deps.Logger.Warn("failed to remove received snapshots that nobody needs", zap.Error(err))
			}
		}
	}
}

// Ready is closed once the cluster knows this member's client URLs: clients may be served.
func (m *Member) Ready() <-chan struct{} { return m.workers.publisher.published }

// Failed is closed when the member can't go on; Err then tells why. The owner stops it.
func (m *Member) Failed() <-chan struct{} { return m.life.failed }

// Err tells why the member failed, nil if it didn't.
func (m *Member) Err() error {
	select {
	case <-m.life.failed:
		return m.life.reason
	default:
		return nil
	}
}

// Stop ends the member in order: leadership is handed over, the store catches up and the log records it, so that
// whoever opens the directory next, a stock member too, has little to replay. A member that failed, or was never started,
// only closes its files. ctx bounds the hand-over and the catching up; closing may take closeGrace longer. On a disk that
// hangs there is no end to wait for: Stop then answers ErrDiskHangs, with files open and goroutines stuck, and the process
// should end.
func (m *Member) Stop(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- end(ctx, m) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace := m.deps.Clock.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		return err
	case <-grace.C:
		return ErrDiskHangs
	}
}

// closeGrace is how long closing the files may take after the time for a stop is over: a last sync on a slow disk.
const closeGrace = 3 * time.Second

// ErrDiskHangs is why a stop gave up: the disk answers nothing.
var ErrDiskHangs = errors.New("server: the disk does not answer: gave up closing the data directory")

// end is Stop on a disk that answers.
func end(ctx context.Context, m *Member) error {
	var last error
	if m.Err() == nil && m.life.started.Load() {
		m.handOver(ctx)
		last = m.recordEnd(ctx)
	}
	m.life.cancel()
	m.life.running.Wait()
	m.network.Stop()
	m.loop.Stop()
	m.workers.sendables.expire(true)
	m.workers.sendables.work.Wait()
	m.workers.secrets.passwords.Close()
	m.data.close()
	if last != nil && m.Err() != nil {
		last = m.Err() // the member failed meanwhile, as it has told by now: what the record could not do came of that
	}
	if last != nil {
		return fmt.Errorf("server: record the state at the stop: %w", last)
	}
	return nil
}

// Kill ends the member as the end of its process would: nothing is handed over, recorded or committed any more, and
// whoever waits for an answer gets none. It is for a simulation, which has many members in one process; who simulates a
// power loss has cut the member's disk off before. Afterwards the directory may be opened again.
func (m *Member) Kill() {
	m.data.store.Abandon()
	m.life.cancel()
	m.network.Stop()
	m.loop.Stop()
	m.life.running.Wait()
	m.workers.sendables.expire(true)
	m.workers.sendables.work.Wait()
	m.workers.secrets.passwords.Close()
	m.data.close()
}

// handOver moves leadership to another voter, so that writes pause for a round trip and not for an election.
func (m *Member) handOver(ctx context.Context) {
	st := m.loop.Status()
	if st.Lead != st.ID || !m.connected() {
		return // not the leader, or nobody is there to take over
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Raft.Election)
	defer cancel()
	if err := m.loop.TransferLeadership(ctx, 0); err != nil {
		m.deps.Logger.Warn("failed to hand leadership over before the stop", zap.Error(err))
	}
}

// recordEnd makes a snapshot of what is applied now.
func (m *Member) recordEnd(ctx context.Context) error {
	end := *m.machine.end.Load()
	if end.index == m.data.recorded.index {
		return nil
	}
	return m.workers.snapshotter.make(ctx, end)
}

// install replaces the store's file and all state by a received snapshot. It is called under machine.mu, with nothing
// being applied.
func (m *Member) install(s *raftpb.Snapshot) error {
	index := s.GetMetadata().GetIndex()
	m.deps.Logger.Info("applying a snapshot", zap.Uint64("snapshot-index", index))
	m.data.state.Watch.Suspend()
	if err := m.data.store.Install(snap.DBPath(m.data.snap, index)); err != nil {
		return err
	}
	m.workers.reclaimer.replaced()
	before := m.data.state.Cluster.State()
	resume, err := apply.Load(m.data.store, m.data.state)
	if err != nil {
		return err
	}
	if resume > 0 {
		m.workers.reclaimer.compacted(resume)
	}
	after := m.data.state.Cluster.State()
	m.workers.snapshotter.restart(index, after.Version)
	for _, p := range before.Members {
		if _, ok := after.Member(p.ID); !ok && p.ID != m.data.id {
			m.network.RemovePeer(p.ID)
		}
	}
	for _, p := range after.Members {
		if p.ID != m.data.id {
			m.network.AddPeer(p.ID, p.PeerURLs)
			m.network.UpdatePeer(p.ID, p.PeerURLs)
		}
	}
	if after.Removed[m.data.id] {
		m.workers.departure.begin()
	}
	return nil
}
