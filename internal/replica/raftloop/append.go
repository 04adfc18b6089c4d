package raftloop

import (
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/clock"
	"keelson/internal/storage/wal"
)

// appendBytesMax bounds one write to the log: 4 MiB is what a disk takes in a few milliseconds, and the
// buffer for it. More that waits goes into the next write of the same group, before the one sync.
const appendBytesMax = 4 << 20

// stopwatch measures time since the loop was made: monotonic, and on the simulation's clock in tests.
type stopwatch struct {
	clock clock.Clock
	zero  time.Time
}

func (s stopwatch) now() time.Duration { return s.clock.Now().Sub(s.zero) }

// appendItem is a MsgStorageAppend or a snapshot record to write.
type appendItem struct {
	msg  *raftpb.Message
	mark *markJob
}

type markJob struct {
	mark    wal.Mark
	refused bool       // it is past the log
	late    bool       // a record at or behind it is in the log already
	done    chan error // holds one
}

// appender is the append thread: it writes what raft appends, syncs once for all that waits, shows the
// entries in the Log, and only then delivers the responses, in order. The loop starts and joins it.
type appender struct {
	wal      WAL
	log      *Log
	in       *inbox
	out      Transport
	install  func(*raftpb.Snapshot) error // on the apply thread, when all before it is applied
	before   func(*raftpb.Snapshot) error
	life     *life
	watch    stopwatch
	catchUp  uint64
	busy     atomic.Int64 // when the write or sync in flight began, as a Duration; 0: none
	done     chan struct{}
	queue    queue[appendItem]
	written  raftpb.HardState // the last state in the log; of the append thread
	recorded uint64           // index of the newest snapshot record; of the append thread
}

// stalled is how long the write or sync in flight has lasted.
func (a *appender) stalled(now time.Duration) time.Duration {
	if b := a.busy.Load(); b != 0 {
		return now - time.Duration(b)
	}
	return 0
}

func (a *appender) run() {
	defer close(a.done)
	if err := a.queue.run(a.life.quit, a.work); err != nil {
		a.life.fail(err)
	}
}

// work takes the items in order, in groups that share a sync.
func (a *appender) work(items []appendItem) error {
	for len(items) > 0 {
		n := groupLen(items)
		if err := a.group(items[:n]); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// groupLen is how many items share a sync: an incoming snapshot is alone, since it has to be installed
// before what follows it.
func groupLen(items []appendItem) int {
	for i, it := range items {
		if it.msg != nil && it.msg.Snapshot != nil {
			return max(i, 1)
		}
	}
	return len(items)
}

// group writes its items in order, syncs if any of them has to be durable, and delivers. A commit index
// alone needs no sync, nor do responses that rest on what an earlier sync covered.
func (a *appender) group(items []appendItem) error {
	a.busy.Store(int64(max(1, a.watch.now())))
	batches, durable, err := a.write(items)
	if err == nil && durable {
		err = a.wal.Sync()
	}
	a.busy.Store(0)
	if err != nil {
		return fmt.Errorf("raftloop: write the log: %w", err)
	}
	if s := items[0].msg.GetSnapshot(); s != nil {
		if err := a.install(s); err != nil {
			return err
		}
		md := s.GetMetadata()
		a.log.restart(md.GetIndex(), md.GetTerm())
	}
	for _, b := range batches {
		a.log.Append(b.Entries)
	}
	a.deliver(items)
	return a.marked(items)
}

// write appends the items, neighbours merged into one write, and tells whether a sync is due.
func (a *appender) write(items []appendItem) (batches []wal.Batch, durable bool, err error) {
	var b wal.Batch
	size := uint64(0)
	flush := func() {
		if err == nil && (b.State != nil || b.Mark != nil || len(b.Entries) > 0) {
			err = a.wal.Append(b)
			batches = append(batches, b)
		}
		b, size = wal.Batch{}, 0
	}
	for _, it := range items {
		if it.mark != nil {
			if last, _ := a.log.LastIndex(); it.mark.mark.Index > last {
				it.mark.refused = true
				continue
			}
			if it.mark.mark.Index <= a.recorded {
				it.mark.late = true
				continue
			}
			a.recorded = it.mark.mark.Index
			flush()
			b.State = a.raiseCommit(it.mark.mark.Index)
			flush()
			b.Mark, durable = &it.mark.mark, true
			flush()
			continue
		}
		m := it.msg
		if s := m.GetSnapshot(); s != nil {
			if a.before != nil {
				if err := a.before(s); err != nil {
					return nil, false, err
				}
			}
			md := s.GetMetadata()
			a.recorded = md.GetIndex()
			b.Mark, durable = &wal.Mark{Index: md.GetIndex(), Term: md.GetTerm(), ConfState: md.GetConfState()}, true
		}
		ents := m.GetEntries()
		if n := len(b.Entries); len(ents) > 0 && n > 0 && (size > appendBytesMax || b.Entries[n-1].GetIndex()+1 != ents[0].GetIndex()) {
			flush()
		}
		for _, e := range ents {
			size += entrySize(e)
		}
		if len(b.Entries) == 0 {
			b.Entries = ents[:len(ents):len(ents)]
		} else {
			b.Entries = append(b.Entries, ents...)
		}
		durable = durable || len(ents) > 0
		if m.Term != nil {
			b.State = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
			durable = durable || m.GetTerm() != a.written.GetTerm() || m.GetVote() != a.written.GetVote()
			a.written.Term, a.written.Vote, a.written.Commit = m.Term, m.Vote, m.Commit
		}
	}
	flush()
	return batches, durable, err
}

// raiseCommit gives the state that a snapshot record at index needs before it, if the log's last state
// has a lower commit index: at start the store may be ahead of it.
func (a *appender) raiseCommit(index uint64) *raftpb.HardState {
	if a.written.GetCommit() >= index {
		return nil
	}
	a.written.Commit = new(index)
	return &raftpb.HardState{Term: new(a.written.GetTerm()), Vote: new(a.written.GetVote()), Commit: new(index)}
}

// deliver hands out the responses of a durable group: to the loop, and past it to the peers.
func (a *appender) deliver(items []appendItem) {
	var local, remote []*raftpb.Message
	for _, it := range items {
		for _, r := range it.msg.GetResponses() {
			if r.GetTo() == it.msg.GetFrom() {
				local = append(local, r)
			} else {
				remote = append(remote, r)
			}
		}
	}
	if len(local) > 0 {
		a.in.respond(local)
	}
	if len(remote) > 0 {
		a.out.Send(remote)
	}
}

// marked finishes the snapshot records of a synced group: the log before them may go.
func (a *appender) marked(items []appendItem) error {
	for _, it := range items {
		if it.mark == nil {
			continue
		}
		if it.mark.refused {
			it.mark.done <- ErrPastLog
			continue
		}
		if it.mark.late {
			it.mark.done <- nil
			continue
		}
		to := a.log.compact(it.mark.mark.Index, a.catchUp, a.watch.clock.Now())
		err := a.wal.Release(to)
		it.mark.done <- err
		if err != nil {
			return fmt.Errorf("raftloop: release the log up to %d: %w", to, err)
		}
	}
	return nil
}
