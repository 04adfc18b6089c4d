package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/apply"
	"keelson/internal/config"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// forcing makes a member the only one of its cluster, before raft runs (--force-new-cluster): what is committed is
// executed, what is not is dropped, the others are removed by conf changes in the log, and log, store and .snap file are
// recorded at the last of these. Nobody who opens the directory afterwards, a stock member neither, has anything of the
// former members left to read. Each step is durable before the next, and a start with the flag after a crash begins anew.
type forcing struct {
	*opened
	cfg     *config.Config
	deps    Deps
	log     *wal.Contents
	applier *apply.Applier
	// rest is what the log has behind its commit index.
	rest []*raftpb.Entry
}

// forceNew does it, and changes c into what the log is afterwards.
func (o *opened) forceNew(cfg *config.Config, d Deps, c *wal.Contents) error {
	f := &forcing{opened: o, cfg: cfg, deps: d, log: c, applier: apply.New(o.state, applyOptions(cfg, nil))}
	for _, step := range []func() error{f.begin, f.settle, f.adopt, f.part, f.record} {
		if err := step(); err != nil {
			return fmt.Errorf("server: force a new cluster: %w", err)
		}
	}
	return nil
}

// begin takes the log as far as it is committed. Where it ends before the store, entries are lost: it then begins anew
// behind what the store holds.
func (f *forcing) begin() error {
	hs, ci := f.log.State, f.store.Committed()
	commit := max(hs.GetCommit(), ci.Index)
	f.log.State = &raftpb.HardState{Term: new(max(hs.GetTerm(), ci.Term, 1)), Vote: new(hs.GetVote()), Commit: &commit}
	if n := len(f.log.Entries); commit > f.log.Mark.Index+uint64(n) {
		f.deps.Logger.Warn("the log ends before the state file: it begins anew behind it",
			zap.Uint64("last-log-index", f.log.Mark.Index+uint64(n)), zap.Uint64("consistent-index", ci.Index))
		f.log.Entries = nil
		return f.mark(ci.Index, max(ci.Term, f.log.Mark.Term, 1))
	}
	kept := upTo(f.log.Entries, commit)
	f.log.Entries, f.rest = kept, f.log.Entries[len(kept):]
	return nil
}

// adopt takes what the log has behind its commit index for as long as this member was the only voter: what such a member has
// in its log is committed and may have been acknowledged, though a crash came before the commit index was written. The rest
// is dropped.
func (f *forcing) adopt() error {
	for len(f.rest) > 0 && f.alone() {
		n := 1 + slices.IndexFunc(f.rest, func(e *raftpb.Entry) bool { return e.GetType() == raftpb.EntryConfChange })
		if n == 0 {
			n = len(f.rest)
		}
		if err := f.execute(f.rest[:n]); err != nil {
			return err
		}
		f.log.Entries, f.rest = append(f.log.Entries, f.rest[:n]...), f.rest[n:]
		f.log.State.Commit = f.log.Entries[len(f.log.Entries)-1].Index
	}
	if dropped := len(f.rest); dropped > 0 {
		f.deps.Logger.Info("discarding uncommitted WAL entries", zap.Uint64("commit-index", f.log.State.GetCommit()), zap.Int("number-of-discarded-entries", dropped))
	}
	return nil
}

// alone tells whether this member is the only voter.
func (f *forcing) alone() bool {
	conf := f.state.Cluster.State().Conf
	return slices.Equal(conf.GetVoters(), []uint64{f.id}) && len(conf.GetVotersOutgoing()) == 0
}

// settle executes what is committed and not in the store.
func (f *forcing) settle() error {
	if err := f.execute(f.log.Entries); err != nil {
		return err
	}
	if f.state.Cluster.State().Removed[f.id] {
		return fmt.Errorf("this member (%x) was removed from its cluster, and an ID that was removed cannot come back; "+
			"to use its data, restore it into a new directory: etcdutl snapshot restore %s --skip-hash-check", f.id, f.db)
	}
	return nil
}

// execute runs entries that the store lacks and waits until it has them.
func (f *forcing) execute(ents []*raftpb.Entry) error {
	ci := f.store.Committed().Index
	for i, e := range ents {
		if e.GetIndex() <= ci {
			continue
		}
		if e.GetType() == raftpb.EntryConfChange {
			if _, _, err := f.applier.ApplyConf(e, f.change); err != nil {
				return err
			}
		} else {
			_, res, err := f.applier.Apply(e, func(uint64) bool { return false })
			if err != nil {
				return err
			}
			f.resume = max(f.resume, res.Compacted)
		}
		if i%runEntriesMax == 0 || i == len(ents)-1 {
			f.store.Append(f.applier.Flush())
			ci = e.GetIndex()
		}
	}
	return f.store.Sync(context.Background(), ci)
}

// change is raft's part in a conf change.
func (f *forcing) change(cc *raftpb.ConfChange) *raftpb.ConfState {
	return apply.NextConf(f.state.Cluster.State().Conf, cc)
}

// part writes the conf changes that leave this member alone, as committed, and executes them.
func (f *forcing) part() error {
	before := f.state.Cluster.State()
	ents, err := f.changes(before)
	if err != nil {
		return err
	}
	if len(ents) > 0 {
		f.log.State.Commit = ents[len(ents)-1].Index
		if err := f.wal.Append(wal.Batch{State: f.log.State, Entries: ents}); err != nil {
			return err
		}
		if err := f.wal.Sync(); err != nil {
			return err
		}
		f.log.Entries = append(f.log.Entries, ents...)
		if err := f.execute(ents); err != nil {
			return err
		}
	}
	alone := &raftpb.ConfState{Voters: []uint64{f.id}}
	if !proto.Equal(f.state.Cluster.State().Conf, raftpb.EnsureConfState(alone)) {
		// Raft knew members that the cluster did not.
		f.state.Cluster.SetConf(alone)
		if err := f.store.PutLocal(store.Op{Bucket: schema.Meta, Key: schema.ConfStateKey, Value: schema.ConfStateJSON(alone)}); err != nil {
			return err
		}
	}
	now := f.state.Cluster.State()
	self, ok := now.Member(f.id)
	if !ok || len(now.Members) != 1 || self.IsLearner {
		return fmt.Errorf("the members are %v after all others were removed", now.Members)
	}
	f.tell(before, self)
	return nil
}

// changes gives the conf changes that leave this member alone, itself first: raft is never without a voter.
func (f *forcing) changes(st *cluster.State) ([]*raftpb.Entry, error) {
	var ents []*raftpb.Entry
	add := func(t raftpb.ConfChangeType, id uint64, context []byte) error {
		data, err := proto.Marshal(&raftpb.ConfChange{Type: t.Enum(), NodeId: &id, Context: context})
		ents = append(ents, &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: f.log.State.Term, Index: new(f.log.State.GetCommit() + uint64(len(ents)) + 1), Data: data,
		})
		return err
	}
	self, known := st.Member(f.id)
	if !known || self.IsLearner {
		ctx := cluster.Context{Member: schema.Member{ID: f.id}, IsPromote: known}
		if !known {
			ctx.PeerURLs = f.cfg.Cluster.AdvertisePeer.StringSlice()
		}
		b, err := json.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		if err := add(raftpb.ConfChangeAddNode, f.id, b); err != nil {
			return nil, err
		}
	}
	for _, id := range st.IDs() {
		if id == f.id {
			continue
		}
		if err := add(raftpb.ConfChangeRemoveNode, id, nil); err != nil {
			return nil, err
		}
	}
	return ents, nil
}

// record has everything begin behind the last entry.
func (f *forcing) record() error {
	end := f.store.Committed()
	if end.Index == f.log.Mark.Index {
		return nil
	}
	f.log.Entries = nil
	return f.mark(end.Index, end.Term)
}

// mark writes the .snap file and the log's record of an entry that the store holds.
func (f *forcing) mark(index, term uint64) error {
	m := mark{index, term}
	st := f.state.Cluster.State()
	err := snap.Save(f.deps.FS, f.snap, snap.Snapshot{Index: m.index, Term: m.term, ConfState: st.Conf, Data: encodeV2(st)})
	if err != nil {
		return err
	}
	f.log.Mark = wal.Mark{Index: m.index, Term: m.term, ConfState: st.Conf}
	if err := f.wal.Append(wal.Batch{Mark: &f.log.Mark, State: f.log.State}); err != nil {
		return err
	}
	return f.wal.Sync()
}

// tell says what was done, and what to do now.
func (f *forcing) tell(before *cluster.State, self schema.Member) {
	var removed []string
	for _, id := range before.IDs() {
		if id != f.id {
			removed = append(removed, hexID(id))
		}
	}
	f.deps.Logger.Warn("--force-new-cluster: this member is now the only one of its cluster, with the data that it had. "+
		"Remove the flag before the next start: with it, every member that is added until then would be removed again",
		zap.String("cluster-id", hexID(f.clusterID)), zap.String("local-member-id", hexID(f.id)),
		zap.Strings("removed-member-ids", removed), zap.Uint64("commit-index", f.log.State.GetCommit()))
	if urls := f.cfg.Cluster.AdvertisePeer.StringSlice(); !sameURLs(self.PeerURLs, urls) {
		f.deps.Logger.Warn("the cluster knows this member by other peer URLs than --initial-advertise-peer-urls: "+
			"if others are to reach it there, use `etcdctl member update` before you add them",
			zap.Strings("known-peer-urls", self.PeerURLs), zap.Strings("initial-advertise-peer-urls", urls))
	}
}
