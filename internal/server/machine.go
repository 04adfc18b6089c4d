package server

import (
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/apply"
	"keelson/internal/kit/clock"
	"keelson/internal/replica/raftloop"
	"keelson/internal/storage/store"
)

// runEntriesMax bounds the entries that are applied before their results go out: enough to share one publication
// among all that is queued under load, few enough (about a millisecond of puts) that the first does not wait long.
const runEntriesMax = 512

// machine is what raft's committed entries run on.
type machine struct {
	// mu guards all replicated state while it changes: by entries, and by the reclaimer's small steps.
	mu sync.Mutex
	// installing is set while mu is held over the disk, for the installation of a snapshot.
	installing atomic.Bool
	applier    *apply.Applier
	store      *store.Store
	waiters    *waiters
	clock      clock.Clock
	hooks      machineHooks
	results    []pending
	// end is what the last applied run ended with.
	end  atomic.Pointer[point]
	slow *slow
}

type mark struct{ index, term uint64 }

// pending is a result that waits for its run to be published.
type pending struct {
	id  uint64
	res apply.Result
}

// machineHooks is what the rest of the member does when entries were applied. All are called by the apply thread and
// must not block.
type machineHooks struct {
	// applied is called after a run was published.
	applied func(end point)
	// confChanged is called after a change of membership took effect.
	confChanged func(apply.ConfResult)
	// compacted is called with the revision of a compaction, under mu.
	compacted func(rev int64)
	// emptyEntry is called for the entry that a new leader begins its term with.
	emptyEntry func(term uint64)
	// install replaces the store's file and all state by a received snapshot, under mu.
	install func(*raftpb.Snapshot) error
	// snapshot gives the metadata of a snapshot for a follower.
	snapshot func() (*raftpb.Snapshot, error)
}

var _ raftloop.Machine = (*machine)(nil)

// Apply executes committed entries in runs. A conf change is a run of its own.
func (m *machine) Apply(ents []*raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) error {
	for len(ents) > 0 {
		n := 0
		for n < len(ents) && n < runEntriesMax && ents[n].GetType() == raftpb.EntryNormal {
			n++
		}
		if n == 0 {
			if err := m.applyConf(ents[0], change); err != nil {
				return err
			}
			ents = ents[1:]
			continue
		}
		if err := m.applyRun(ents[:n]); err != nil {
			return err
		}
		ents = ents[n:]
	}
	return nil
}

// applyRun executes normal entries, publishes them as one and only then lets anybody be answered.
func (m *machine) applyRun(ents []*raftpb.Entry) error {
	m.mu.Lock()
	m.results = m.results[:0]
	start := m.clock.Now()
	for _, e := range ents {
		id, res, err := m.applier.Apply(e, m.waiters.wanted)
		if err != nil {
			m.mu.Unlock()
			return err
		}
		if res.Compacted > 0 {
			m.hooks.compacted(res.Compacted)
		}
		if id != 0 {
			m.results = append(m.results, pending{id, res})
		}
		now := m.clock.Now()
		m.slow.entry(m.applier.Last, &res, now.Sub(start))
		start = now
	}
	m.finish(ents[len(ents)-1])
	for i := range m.results {
		m.waiters.deliver(m.results[i].id, m.results[i].res)
		m.results[i].res = apply.Result{}
	}
	for _, e := range ents {
		if len(e.Data) == 0 {
			m.hooks.emptyEntry(e.GetTerm())
		}
	}
	m.slow.published(m.clock.Now().Sub(start))
	return nil
}

func (m *machine) applyConf(e *raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) error {
	m.mu.Lock()
	id, res, err := m.applier.ApplyConf(e, change)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	m.finish(e)
	m.hooks.confChanged(res)
	if id != 0 {
		m.waiters.deliver(id, apply.Result{Resp: m.applier.Cluster.State(), Err: res.Err})
	}
	return nil
}

// finish publishes a run, queues its batch for the store and lets go of mu. It waits where the store is too far behind:
// then results, and with them raft's commits here, wait too. The reclaimer, which waits for mu, thus never asks the store
// to delete what a compaction made dead before the store has that compaction.
func (m *machine) finish(last *raftpb.Entry) {
	if batch := m.applier.Flush(); batch != nil {
		m.store.Append(batch)
	}
	m.mu.Unlock()
	m.reached(mark{last.GetIndex(), last.GetTerm()})
	m.hooks.applied(*m.end.Load())
}

// reached notes the last applied entry with the membership as of it. Only the apply thread, which alone changes the
// membership, may call it.
func (m *machine) reached(last mark) { m.end.Store(&point{last, m.applier.Cluster.State()}) }

// applied gives the index of the last applied entry.
func (m *machine) applied() uint64 { return m.end.Load().index }

// Install replaces all state by a received snapshot.
func (m *machine) Install(s *raftpb.Snapshot) error {
	m.installing.Store(true)
	defer m.installing.Store(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.hooks.install(s); err != nil {
		return err
	}
	m.reached(mark{s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm()})
	return nil
}

// Snapshot gives the metadata of a snapshot for a follower that lags behind the log.
func (m *machine) Snapshot() (*raftpb.Snapshot, error) { return m.hooks.snapshot() }
