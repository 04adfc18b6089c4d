// Package server is the member: it wires log, state and network together, proposes what clients ask and waits for what
// comes of it, reads from published views, and looks after leases, snapshots, versions and memory. Each of these is a
// small type of its own; Member starts, joins and stops them.
//
// cmd/etcd builds a Member with the machine's clock, disk and network; the simulation builds the same value with its
// own.
package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"

	"keelson/internal/apply"
	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/kit/wire"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/watch"
)

// Deps is what a member gets from outside: all that is not its configuration.
type Deps struct {
	FS     vfs.FS
	Clock  clock.Clock
	Logger *zap.Logger
	// Network makes the connection to the other members. It must not hand anything to the Receiver before
	// Member.Start.
	Network func(NetworkParams) Network
	// Caller asks other members; it works before this member has an identity.
	Caller Caller
	// Discover finds the founders of a new cluster, this member of the given ID among them, and may wait for them as long as
	// it takes. nil: the configuration names them.
	Discover func(ctx context.Context, id uint64) (types.URLsMap, error)
	// Observe is told how long things took. Its zero value observes nothing.
	Observe Observer
	// Random is where tokens come from, ReadFile reads keys by the names in --auth-token; nil: the machine's own.
	Random   io.Reader
	ReadFile func(name string) ([]byte, error)
	// SegmentBytes is the size of a file of the log; 0 is etcd's 64 MB. The simulation's are small, so that
	// its short lives see many of them come and go.
	SegmentBytes int64
	// Machine, if set, is put around what committed entries run on. The simulation proves its checkers with
	// it: a machine that applies an entry twice must be found out. Nothing else sets it.
	Machine func(raftloop.Machine) raftloop.Machine
}

func (d Deps) around(m raftloop.Machine) raftloop.Machine {
	if d.Machine == nil {
		return m
	}
	return d.Machine(m)
}

// Member is one member of a cluster. Its methods are what edges call; all are safe for concurrent use.
type Member struct {
	*KV
	*Leases
	*Membership
	*Maintenance
	*Alarmer
	*Downgrades
	*Auth

	cfg     *config.Config
	deps    Deps
	data    *opened
	loop    *raftloop.Loop
	network Network
	machine *machine
	workers workers
	life    *life
}

// workers are the member's own goroutines' owners.
type workers struct {
	snapshotter *snapshotter
	sendables   *sendables
	reclaimer   *reclaimer
	keeper      *leaseKeeper
	publisher   *publisher
	versions    *versions
	departure   *departure
	vetting     *vetting // nil where nothing is to be found out
	stats       *proposalStats
	space       *spaceWatch
	compactor   *autoCompactor
	corrupt     *corruptCheck
	secrets     *secrets
}

// life is a member's end: the first reason wins.
type life struct {
	once   sync.Once
	reason error
	// failed is closed when the member can't go on.
	failed  chan struct{}
	started atomic.Bool
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newLife() *life {
	l := &life{failed: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *life) fail(err error) {
	l.once.Do(func() {
		l.reason = err
		close(l.failed)
	})
}

// New opens the data directory, or makes one, and gives a member that is ready to start. On an error nothing is left
// open, and nothing was created if the error was in the configuration.
func New(cfg *config.Config, d Deps) (*Member, error) {
	l := newLife()
	sec, err := newSecrets(cfg, d)
	if err != nil {
		return nil, err
	}
	data, err := open(cfg, d, l.fail)
	if err != nil {
		sec.passwords.Close()
		return nil, err
	}
	m := &Member{cfg: cfg, deps: d, data: data, life: l}
	m.wire(sec)
	if cfg.Gates[config.InitialCorruptCheck] && data.applied.index > 0 {
		if err := m.workers.corrupt.initial(l.ctx); err != nil {
			return nil, errors.Join(err, m.Stop(l.ctx))
		}
	}
	return m, nil
}

// wire makes the parts and connects them. Data flows one way: requests through proposer and loop into machine, from
// there into state, results to waiters.
func (m *Member) wire(sec *secrets) {
	o, d, cfg := m.data, m.deps, m.cfg
	ids := newRequestIDs(o.id, d.Clock.Now())
	w := &waiters{ids: ids}
	stats := &proposalStats{}
	applier := apply.New(o.state, applyOptions(cfg, sec.known))
	m.machine = &machine{
		applier: applier, store: o.store, waiters: w, clock: d.Clock,
		slow: &slow{warn: cfg.Limits.WarnApply, logger: d.Logger, observe: &m.deps.Observe},
	}
	m.machine.reached(o.applied)
	sendables := &sendables{store: o.store, applied: m.machine.applied, clock: d.Clock, logger: d.Logger, ctx: m.life.ctx}
	recv := &receiver{cluster: o.state.Cluster, sendables: sendables, fs: d.FS, snapDir: o.snap, id: o.id, fail: m.life.fail, clock: d.Clock, saved: d.Observe.SnapshotSaved, received: d.Observe.SnapshotReceived}
	m.network = d.Network(NetworkParams{ID: o.id, ClusterID: o.clusterID, Receiver: recv})
	lo := loopOptions(cfg, d, o.id, ids, m.life.fail)
	lo.BeforeInstall, lo.Unproven = recv.saveReceived, o.unproven
	m.loop = raftloop.New(lo, o.log, o.wal, m.network, d.around(m.machine))
	recv.loop = m.loop

	if sec.simple != nil {
		sec.simple.applied, sec.simple.timeout = m.loop.WaitApplied, proposeGrace+2*cfg.Raft.Election
	}
	p := &proposer{
		auth: &authority{view: o.state.KV.View, kind: sec.kind, lease: o.state.Leases},
		loop: m.loop, waiters: w, clock: d.Clock, stats: stats,
		election: cfg.Raft.Election, timeout: proposeGrace + 2*cfg.Raft.Election, bytesMax: int(cfg.Limits.RequestBytes),
		observe:    &m.deps.Observe,
		peerActive: func(id uint64) bool { return !m.network.ActiveSince(id).IsZero() },
	}
	p.alarms = o.state.Alarms
	r := &reads{loop: m.loop, clock: d.Clock, timeout: p.timeout, fresh: cfg.Raft.Election / 2, logger: d.Logger}
	p.reads = r
	m.workers = workers{sendables: sendables, stats: stats, secrets: sec}
	m.serve(p, r)
	m.employ(p, r)
	m.hook()
}

// serve makes what edges call.
func (m *Member) serve(p *proposer, r *reads) {
	o := m.data
	who := identity{id: o.id, clusterID: o.clusterID, loop: m.loop, view: o.state.KV.View}
	m.Alarmer = &Alarmer{identity: who, set: o.state.Alarms, proposer: p, reads: r, turn: make(chan struct{}, 1)}
	q := newQuota(o.store, m.Alarmer, &o.diskFull, m.cfg.Storage.QuotaBytes, m.deps.Logger)
	m.workers.space = &spaceWatch{clock: m.deps.Clock, grown: m.machine.applier.Grown.Load, full: func() bool { return !q.has(0) }, alarm: q.alarm}
	m.workers.reclaimer = newReclaimer(m.machine, o.state, o.store, m.deps)
	m.Auth = &Auth{identity: who, authority: p.auth, proposer: p, reads: r, passwords: m.workers.secrets.passwords, logger: m.deps.Logger}
	m.KV = &KV{auth: p.auth, identity: who, kv: o.state.KV, proposer: p, reads: r, quota: q, reclaim: m.workers.reclaimer, slow: m.machine.slow, opsMax: int(m.cfg.Limits.TxnOps)}
	find := &leaderFinder{loop: m.loop, cluster: o.state.Cluster, caller: m.deps.Caller, clock: m.deps.Clock, timeout: p.timeout}
	m.Leases = &Leases{auth: p.auth, identity: who, table: o.state.Leases, proposer: p, reads: r, quota: q, clock: m.deps.Clock, leader: find, checkpoints: m.cfg.Gates["LeaseCheckpoint"]}
	m.Membership = newMembership(m, who, p, r, find)
	watchOwnPlace(m)
	m.Maintenance = &Maintenance{Defragmenter: &Defragmenter{store: o.store, logger: m.deps.Logger}, identity: who, machine: m.machine, store: o.store, cluster: o.state.Cluster, alarms: o.state.Alarms, quota: q, kv: o.state.KV, clock: m.deps.Clock, observe: &m.deps.Observe, sendables: m.workers.sendables, moveTimeout: m.cfg.Raft.Election}
}

// employ makes the goroutines' owners.
func (m *Member) employ(p *proposer, r *reads) {
	o, d, cfg := m.data, m.deps, m.cfg
	m.workers.snapshotter = &snapshotter{
		fs: d.FS, clock: d.Clock, saved: d.Observe.SnapshotSaved, dir: o.snap, keep: cfg.Storage.MaxSnapshots, every: cfg.Raft.SnapshotCount,
		store: o.store, loop: m.loop, logger: d.Logger, fail: m.life.fail, wants: make(chan point, 1), turn: make(chan struct{}, 1),
	}
	m.workers.snapshotter.begin(o)
	m.workers.keeper = &leaseKeeper{
		table: o.state.Leases, loop: m.loop, proposer: p, reads: r, clock: d.Clock,
		extend: cfg.Raft.Election, look: leaseCheckpointLook, led: make(chan struct{}, 1), logger: d.Logger, expired: d.Observe.LeaseExpired,
	}
	if cfg.Gates["LeaseCheckpoint"] {
		m.workers.keeper.wear = leaseCheckpointWear
	}
	m.workers.publisher = newPublisher(m, p)
	followVersions(m, p, r)
}

// followVersions makes what looks after versions.
func followVersions(m *Member, p *proposer, r *reads) {
	o, d, cfg := m.data, m.deps, m.cfg
	v := &versions{
		id: o.id, cluster: o.state.Cluster, loop: m.loop, log: o.log, proposer: p, caller: d.Caller,
		store: o.store, records: &m.workers.snapshotter.records, clock: d.Clock, logger: d.Logger,
		wake: make(chan struct{}, 1),
	}
	if cfg.Cluster.MaxVersion != "" {
		v.most = semver.New(cfg.Cluster.MaxVersion + ".0")
	}
	v.records.settled = v.nudge
	m.workers.versions = v
	m.Downgrades = &Downgrades{
		identity: m.KV.identity, cluster: o.state.Cluster, proposer: p, reads: r, versions: v,
		clock: d.Clock, every: cfg.Checks.Downgrade, logger: d.Logger,
	}
	m.workers.compactor = newAutoCompactor(m.KV, cfg.Compaction, d)
	m.workers.corrupt = newCorruptCheck(m, p.timeout)
}

// hook connects what happens when entries were applied.
func (m *Member) hook() {
	m.machine.hooks = machineHooks{
		applied: func(p point) {
			m.workers.snapshotter.note(p)
			m.workers.versions.note(p)
		},
		confChanged: m.confChanged,
		compacted:   m.workers.reclaimer.compacted,
		emptyEntry:  m.termBegan,
		install:     m.install,
		snapshot:    m.workers.sendables.metadata,
	}
}

func applyOptions(cfg *config.Config, known apply.Tokens) apply.Options {
	return apply.Options{
		MaxLearners: cfg.Cluster.MaxLearners, PersistCheckpoints: cfg.Gates["LeaseCheckpointPersist"],
		Tokens: known, Hash: func(password string) ([]byte, error) {
			return bcrypt.GenerateFromPassword([]byte(password), bcryptCost(cfg))
		},
	}
}

func loopOptions(cfg *config.Config, d Deps, id uint64, ids *requestIDs, fail func(error)) raftloop.Options {
	return raftloop.Options{
		ID: id, ElectionTicks: cfg.ElectionTicks(), Tick: cfg.Raft.Heartbeat, PreVote: cfg.Raft.PreVote,
		CatchUpEntries: cfg.Raft.CatchUpEntries,
		NextID:         ids.Next, Clock: d.Clock, Logger: d.Logger, OnFail: fail,
	}
}

// Header gives an answer's header as of now.
func (m *Member) Header() wire.Header { return m.KV.Header() }

// ID gives the member's ID.
func (m *Member) ID() uint64 { return m.data.id }

// ClusterID gives the cluster's ID.
func (m *Member) ClusterID() uint64 { return m.data.clusterID }

// Watch gives the hub that serves watchers.
func (m *Member) Watch() *watch.Hub { return m.data.state.Watch }

// LinearizableRead returns once a read of this member's view shows all that was acknowledged before.
func (m *Member) LinearizableRead(ctx context.Context) error { return m.reads().linearize(ctx) }

func (m *Member) reads() *reads { return m.KV.reads }

// confChanged follows a change of membership in the network. The removed member itself stops.
func (m *Member) confChanged(r apply.ConfResult) {
	if r.Err != nil {
		return
	}
	self := r.Member.ID == m.data.id
	switch r.Change.Type {
	case raftpb.ConfChangeRemoveNode:
		if self {
			m.workers.departure.begin()
			return
		}
		m.network.RemovePeer(r.Member.ID)
	case raftpb.ConfChangeUpdateNode:
		if !self {
			m.network.UpdatePeer(r.Member.ID, r.Member.PeerURLs)
		}
	default:
		if !self {
			m.network.AddPeer(r.Member.ID, r.Member.PeerURLs)
		}
	}
}

// termBegan is told of the empty entry that a new leader's term begins with.
func (m *Member) termBegan(term uint64) {
	if st := m.loop.Status(); st.Lead != st.ID || st.Term != term {
		return
	}
	m.workers.keeper.ledTerm.Store(term)
	select {
	case m.workers.keeper.led <- struct{}{}:
	default:
	}
	m.workers.versions.nudge()
}
