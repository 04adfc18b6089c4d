// Package raftloop runs raft: one goroutine owns the RawNode, one thread writes the log, one applies.
// The member (package server) proposes, reads and stops through Loop; the network delivers with Step.
//
// The loop takes all that waits at once (proposals, messages, responses, reads), steps it, and hands out
// one Ready: writes to the append thread, committed entries to the apply thread, messages to the
// Transport. It gathers only while it is busy; no timer delays anything. Invariants:
//   - No response to a write leaves before the sync that covers it, and none at all after an error.
//   - raft's view of the log (Log) has the entries before raft hears that they are stable.
//   - A proposal is handed to raft once. What raft refuses stays queued; what a dead leader took is lost.
//   - A conf change takes effect in raft before raft hears that its entry is applied.
//   - Nothing slow runs on the loop's goroutine, but for reading entries that left the memory window.
package raftloop

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/storage/wal"
)

var (
	// ErrStopped is returned when the loop was stopped or has failed before the call was served.
	ErrStopped = errors.New("raftloop: stopped")
	// ErrNotLeader is returned when a transfer is asked of a member that doesn't lead.
	ErrNotLeader = errors.New("raftloop: not the leader")
	// ErrNoTarget is returned when leadership is to go to no voter, or no other voter is active.
	ErrNoTarget = errors.New("raftloop: no such voter to lead")
	// ErrTransferFailed is returned when the target did not lead within an election time-out, or another
	// member does.
	ErrTransferFailed = errors.New("raftloop: leadership did not go to the target")
	// ErrPastLog is returned by MarkSnapshot for an index that the log does not have: such a record would
	// mean an incoming snapshot.
	ErrPastLog = errors.New("raftloop: the log does not reach the snapshot's index")
	// ErrLogLost is the end of a member that the leader counts on for entries which its log does not have.
	ErrLogLost = errors.New("raftloop: the cluster counts on entries that this member had and that its log does not have any more: " +
		"its data directory was lost or is an old copy; remove the member from the cluster and add it again, " +
		"then start it with an empty data directory and --initial-cluster-state existing")
	// ErrNotRemote is returned by Step for a message that only a member itself may make.
	ErrNotRemote = errors.New("raftloop: a local message came from the network")
)

const (
	// messageBytesMax bounds one MsgApp: 1 MiB, as etcd.
	messageBytesMax = 1 << 20
	// inflightMax bounds the MsgApps on their way to one follower: 512, as etcd.
	inflightMax = 512
	// inflightBytesMax bounds their bytes, which a follower that lags has the leader read again: 64 MiB is half a
	// second of a gigabit link.
	inflightBytesMax = 64 << 20
	// applyingBytesMax bounds the entries handed to the apply thread and not yet applied: 16 MiB is
	// several calls of Machine.Apply with entries of 1 KiB.
	applyingBytesMax = 16 << 20
	// uncommittedBytesDefault bounds what the leader has appended and not applied: 64 MiB is 128 full
	// proposal messages, and over a second of a disk that writes 50 MB/s.
	uncommittedBytesDefault = 64 << 20
	// waitingBytesDefault bounds the proposals that wait for a leader or for room: 64 MiB.
	waitingBytesDefault = 64 << 20
	// catchUpDefault is the log kept before a snapshot record for slow followers: etcd's 5,000 entries.
	catchUpDefault = 5000
)

// Machine is the replicated state. The apply thread calls Apply and Install, in log order; both must
// return (with an error) once their owner stops. An error stops the member.
type Machine interface {
	// Apply executes committed, locally durable, contiguous entries, and publishes their effect before it
	// returns. For a conf change it calls change, with NodeID 0 if the change is refused, and gets the
	// configuration in force after it.
	Apply(ents []*raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) error
	// Install replaces all state by that of an incoming snapshot, whose file has been received. Its record
	// is in the log already; nothing is applied meanwhile.
	Install(snap *raftpb.Snapshot) error
	// Snapshot describes a snapshot for a lagging follower, at an index that the store has synced. It is
	// called on the loop's goroutine and must not wait: raft.ErrSnapshotTemporarilyUnavailable tells that
	// it is being made, and raft asks again.
	Snapshot() (*raftpb.Snapshot, error)
}

// WAL is the log on disk. The append thread alone calls it, but for ReadEntries.
type WAL interface {
	Append(wal.Batch) error
	Sync() error
	ReadEntries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error)
	Release(index uint64) error
}

// Transport carries messages to peers. Send is called by the loop and by the append thread; it keeps the
// order of each, never waits, owns ms, and may drop: then it reports unreachable, or the snapshot failed.
type Transport interface {
	Send(ms []*raftpb.Message)
}

// Options are fixed for the life of a Loop. ID, ElectionTicks, Tick, NextID and Clock are required.
type Options struct {
	ID            uint64
	ElectionTicks int           // heartbeats are sent each tick
	Tick          time.Duration // with ManualTick only the measure of a hanging disk
	ManualTick    bool          // the owner calls Loop.Tick
	PreVote       bool
	// Unproven says that the log holds no more than its founders' entries and that nobody has confirmed yet that it never
	// held more: see Prove.
	Unproven bool
	// WaitingBytesMax bounds queued proposals, UncommittedBytesMax the leader's unapplied tail,
	// WindowBytesMax the log in memory; 0 takes the defaults (64, 64 and 32 MiB).
	WaitingBytesMax, UncommittedBytesMax, WindowBytesMax int64
	CatchUpEntries                                       uint64        // 0: 5,000
	NextID                                               func() uint64 // unique in the cluster and over restarts
	// BeforeInstall, if not nil, runs on the append thread before the record of an incoming snapshot is
	// written: the place for its .snap file.
	BeforeInstall func(*raftpb.Snapshot) error
	Clock         clock.Clock
	Logger        *zap.Logger
	// OnFail is called once, by the goroutine that failed, after everything has stopped answering. It must
	// not wait for Stop.
	OnFail func(error)
}

// life is the end of a Loop: asked for, or by failure.
type life struct {
	quit   chan struct{}
	once   sync.Once
	onFail func(error)
}

func (l *life) stop() { l.once.Do(func() { close(l.quit) }) }

func (l *life) fail(err error) {
	l.once.Do(func() {
		close(l.quit)
		if l.onFail != nil {
			l.onFail(err)
		}
	})
}

// Loop is one member's raft. Its methods may be called from any goroutine. Start begins three goroutines,
// Stop joins them.
type Loop struct {
	core    *core
	in      *inbox
	board   *board
	life    *life
	append  *appender
	apply   *applier
	done    chan struct{}
	started sync.Once
}

// New makes a loop on a log as NewLog gave it. It does nothing before Start.
func New(o Options, log *Log, w WAL, t Transport, m Machine) *Loop {
	o = withDefaults(o)
	watch := stopwatch{o.Clock, o.Clock.Now()}
	in := newInbox(o.WaitingBytesMax)
	life := &life{quit: make(chan struct{}), onFail: o.OnFail}
	log.wal, log.snapshot, log.windowSize = w, m.Snapshot, uint64(o.WindowBytesMax)
	board := &board{status: Status{ID: o.ID}, announce: make(chan struct{})}
	l := &Loop{in: in, board: board, life: life, done: make(chan struct{})}
	l.apply = &applier{
		machine: m, in: in, life: life, change: l.change, skip: log.applied,
		done: make(chan struct{}), queue: newQueue[applyItem](),
	}
	l.apply.applied.Store(log.applied)
	l.append = &appender{
		wal: w, log: log, in: in, out: t, install: l.apply.installed, before: o.BeforeInstall,
		life: life, watch: watch, catchUp: o.CatchUpEntries,
		done: make(chan struct{}), queue: newQueue[appendItem](),
	}
	l.append.written.Term, l.append.written.Vote = new(log.written.GetTerm()), new(log.written.GetVote())
	l.append.written.Commit, l.append.recorded = new(log.written.GetCommit()), log.first-1
	rn, err := raft.NewRawNode(&raft.Config{
		ID: o.ID, ElectionTick: o.ElectionTicks, HeartbeatTick: 1,
		Storage: log, Applied: log.startIndex(), AsyncStorageWrites: true,
		MaxSizePerMsg: messageBytesMax, MaxCommittedSizePerReady: applyingBytesMax,
		MaxUncommittedEntriesSize: uint64(o.UncommittedBytesMax), MaxInflightMsgs: inflightMax, MaxInflightBytes: inflightBytesMax,
		// A leader that was removed goes on telling the others that its removal is committed until it is stopped: without
		// that word the survivor of two could not elect itself.
		CheckQuorum: true, PreVote: o.PreVote,
		Logger: raftLogger{o.Logger},
	})
	if err != nil {
		panic(err) // raft's own check panics first; it returns no error
	}
	l.core = &core{
		o: &o, rn: rn, log: log, in: in, out: t, append: l.append, apply: l.apply, board: board,
		commit: log.state.GetCommit(), pump: pump{in: in}, reads: reads{in: in, nextID: o.NextID, logger: o.Logger},
		elections: elections{o: &o, heard: map[uint64]uint64{}},
	}
	if o.Unproven {
		l.core.elections.unproven = log.last
	}
	l.core.pump.departs = l.core.departs
	l.core.cut.term = log.state.GetTerm()
	l.core.cut.settle(o.ID, log.conf)
	board.status.Term, board.status.Commit = log.state.GetTerm(), log.state.GetCommit()
	return l
}

func withDefaults(o Options) Options {
	o.WaitingBytesMax = cmp.Or(o.WaitingBytesMax, waitingBytesDefault)
	o.UncommittedBytesMax = cmp.Or(o.UncommittedBytesMax, uncommittedBytesDefault)
	o.WindowBytesMax = cmp.Or(o.WindowBytesMax, windowBytesDefault)
	o.CatchUpEntries = cmp.Or(o.CatchUpEntries, catchUpDefault)
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

// Start begins the work. It is called once at most.
func (l *Loop) Start() {
	l.started.Do(func() {
		go l.append.run()
		go l.apply.run()
		go func() {
			defer close(l.done)
			l.core.run(l.life)
		}()
	})
}

// Stop ends the work and waits for it: for the write and the call of the Machine that are under way.
func (l *Loop) Stop() {
	l.life.stop()
	l.started.Do(func() { close(l.done) })
	<-l.done
}

// Done is closed when the loop has ended, by Stop or by failure.
func (l *Loop) Done() <-chan struct{} { return l.done }

// do runs f on the loop's goroutine. After an error f may still run, or never.
func (l *Loop) do(ctx context.Context, f func(*core)) error {
	done := make(chan struct{})
	l.in.call(func() {
		f(l.core)
		close(done)
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.life.quit:
		return ErrStopped
	}
}

// change is what the Machine calls for a conf change. The loop serves it even while it stops.
func (l *Loop) change(cc *raftpb.ConfChange) *raftpb.ConfState {
	done := make(chan *raftpb.ConfState, 1)
	l.in.call(func() { done <- l.core.change(cc) })
	return <-done
}

// Propose queues data (not changed afterwards) as one entry. It waits only while the queue is full. The
// entry is handed to raft once: when a leader is known, and only if ctx is still alive then. nil does not
// tell that it is or will be committed: the caller waits for its result until the end of the same ctx.
func (l *Loop) Propose(ctx context.Context, data []byte) error {
	return l.in.propose(ctx, proposal{ctx: ctx, data: data, size: int64(len(data))}, l.life.quit)
}

// Offer is Propose where there is room in the queue; else it answers false at once.
func (l *Loop) Offer(ctx context.Context, data []byte) bool {
	return l.in.offer(proposal{ctx: ctx, data: data, size: int64(len(data))}, l.life.quit)
}

// ProposeConfChange queues a conf change, alone in its message. While an earlier one is not yet applied
// it waits, on a leader.
func (l *Loop) ProposeConfChange(ctx context.Context, cc *raftpb.ConfChange) error {
	data, err := proto.Marshal(cc)
	if err != nil {
		return err
	}
	m := &raftpb.Message{
		Type:    raftpb.MsgProp.Enum(),
		Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChange.Enum(), Data: data}},
	}
	return l.in.propose(ctx, proposal{ctx: ctx, msg: m, size: int64(len(data))}, l.life.quit)
}

// ReadIndex gives an index with this property: state that has it applied shows every write acknowledged
// before the call. Readers share rounds. A lost question is asked again, so an error is ctx's or ErrStopped.
func (l *Loop) ReadIndex(ctx context.Context) (uint64, error) {
	r := l.in.read()
	select {
	case <-r.done:
		return r.index, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-l.life.quit:
		return 0, ErrStopped
	}
}

// LocalRead tells that published state is linearizable as it is: take the view after the answer.
func (l *Loop) LocalRead() bool { return l.core.cut.holds.Load() }

// WaitApplied waits until the entry at index is applied and published.
func (l *Loop) WaitApplied(ctx context.Context, index uint64) error {
	return l.apply.waits.wait(ctx, index, &l.apply.applied, l.life.quit)
}

// Step takes a message from a peer, and owns it. It waits while the loop has too many.
func (l *Loop) Step(ctx context.Context, m *raftpb.Message) error {
	if raft.IsLocalMsg(m.GetType()) || raft.IsLocalMsgTarget(m.GetFrom()) || raft.IsLocalMsgTarget(m.GetTo()) ||
		len(m.GetResponses()) > 0 {
		return ErrNotRemote
	}
	if m.GetType() == raftpb.MsgProp && len(m.GetEntries()) == 0 {
		return nil // raft panics on it
	}
	return l.in.receive(ctx, m, l.life.quit)
}

// Status is the member's place now. No entry beyond its commit index has been handed to the Machine.
func (l *Loop) Status() Status {
	applied := l.apply.applied.Load() // before the commit index, which is never behind it
	s := l.board.read()
	s.Applied, s.Commit = applied, max(s.Commit, applied)
	return s
}

// LeaderChanged is closed when the leader, or its term, is another one than when it was asked for: lost,
// found, or this member itself.
func (l *Loop) LeaderChanged() <-chan struct{} { return l.board.changed() }

// TransferLeadership hands over to the voter to, 0 for the one with the longest log, and returns when it
// leads. Proposals wait meanwhile, and go to the new leader.
func (l *Loop) TransferLeadership(ctx context.Context, to uint64) error {
	var t *transfer
	var failed error
	if err := l.do(ctx, func(c *core) { t, failed = c.elections.transfer(c, to) }); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	select {
	case err := <-t.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.life.quit:
		return ErrStopped
	}
}

// Campaign starts an election, with a pre-vote if that is on.
func (l *Loop) Campaign() {
	l.in.call(func() { _ = l.core.rn.Campaign() })
}

// SuspectLeader tells that leader id seems dead: its connection ended and all its addresses refuse. If it
// is still the leader, this member forgets it and campaigns under pre-vote after rank (its place among
// the survivors, from 0) times 50 ms, again on loss, unless a leader is heard. Without pre-vote it does
// nothing.
func (l *Loop) SuspectLeader(id uint64, rank int) {
	l.in.call(func() { l.core.elections.suspect(l.core, id, rank) })
}

// AdvanceTicks brings the first election nearer, as etcd does at start once peers are connected: the
// time-out counts from two ticks before its end.
func (l *Loop) AdvanceTicks() {
	l.in.call(func() {
		for n := l.core.o.ElectionTicks - 2; n > 0 && l.core.rn.BasicStatus().Lead == raft.None; n-- {
			l.core.rn.Tick()
		}
	})
}

// Prove tells that a log of founders' entries alone is all that this member ever had: see Options.Unproven. Until then,
// or until a leader has sent it more, it gives no vote to a candidate whose log goes on, since the vote may stand for
// entries that it acknowledged in an earlier life and lost.
func (l *Loop) Prove() {
	l.in.call(func() { l.core.elections.unproven = 0 })
}

// Tick advances time by one tick; for an owner that set ManualTick.
func (l *Loop) Tick() { l.in.tick() }

// ReportUnreachable tells that the last message to id was lost.
func (l *Loop) ReportUnreachable(id uint64) {
	l.in.call(func() { l.core.rn.ReportUnreachable(id) })
}

// ReportSnapshot tells how the transfer of a snapshot to id ended. Each MsgSnap needs one, dropped or not.
func (l *Loop) ReportSnapshot(id uint64, ok bool) {
	status := raft.SnapshotFailure
	if ok {
		status = raft.SnapshotFinish
	}
	l.in.call(func() {
		l.core.log.unpin(id, l.core.o.Clock.Now())
		l.core.rn.ReportSnapshot(id, status)
	})
}

// MarkSnapshot writes and syncs a snapshot record, then lets the log before it go, but for what slow
// followers may need. The store is synced at or past m.Index, and m.Index is applied. It does nothing where a later record
// is in the log already, as that of a snapshot that came meanwhile: a stock member reads from the last record in the file,
// and the entries behind an earlier one are not all there.
func (l *Loop) MarkSnapshot(m wal.Mark) error {
	j := &markJob{mark: m, done: make(chan error, 1)}
	l.append.queue.push(appendItem{mark: j})
	select {
	case err := <-j.done:
		return err
	case <-l.life.quit:
		return ErrStopped
	}
}

// Progress is what the leader knows of each member's log (Inflights is nil); nil on others.
func (l *Loop) Progress() map[uint64]tracker.Progress {
	var p map[uint64]tracker.Progress
	if l.do(context.Background(), func(c *core) { p = c.progress() }) != nil {
		return nil
	}
	return p
}
