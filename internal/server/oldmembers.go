package server

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/apply"
	"keelson/internal/config"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// correctMembers replaces the membership in a state file of 3.5 or older by what its .snap and log say. Those versions
// lived by the latter, and known faults of theirs left removed members, and learners that had been promoted, in the
// file. Files since 3.6 name their version and are believed.
func (o *opened) correctMembers(cfg *config.Config, d Deps, c *wal.Contents) error {
	version, err := o.store.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil || len(version) > 0 {
		return err
	}
	have := *o.state.Cluster.State()
	from := cluster.State{Conf: have.Conf, Removed: map[uint64]bool{}}
	if c.Mark.Index > 0 {
		s, err := snap.Load(d.FS, o.snap, func(index, term uint64) bool { return index == c.Mark.Index && term == c.Mark.Term })
		if errors.Is(err, snap.ErrNone) {
			d.Logger.Warn("no .snap file tells the members: those of the state file are taken", zap.Uint64("snapshot-index", c.Mark.Index))
			return nil
		}
		if err != nil {
			return err
		}
		v2, err := snap.DecodeV2(s.Data)
		if errors.Is(err, snap.ErrV2UserData) {
			return fmt.Errorf("server: %w: make v3 keys of them first: etcdctl migrate --data-dir %s", err, cfg.Member.DataDir)
		}
		if err != nil {
			return fmt.Errorf("server: read the members in the snapshot at index %d: %w", s.Index, err)
		}
		from.Members, from.Version = v2.Members, v2.ClusterVersion
		for _, id := range v2.Removed {
			from.Removed[id] = true
		}
	}
	now, err := apply.Members(from, upTo(c.Entries, o.store.Committed().Index), cfg.Cluster.MaxLearners)
	if err != nil {
		return err
	}
	now.Downgrade, now.Conf = have.Downgrade, apply.ConfOf(now.Members)
	ops := memberOps(have, now)
	if len(ops) == 0 {
		return nil
	}
	d.Logger.Warn("the state file's members are not those of the log; the file is corrected",
		zap.Int("members", len(now.Members)), zap.Int("members-in-file", len(have.Members)), zap.Int("corrections", len(ops)))
	if err := o.store.PutLocal(ops...); err != nil {
		return err
	}
	o.state.Cluster.Reset(now)
	return nil
}

// upTo gives the entries that the state file holds already.
func upTo(ents []*raftpb.Entry, index uint64) []*raftpb.Entry {
	n := slices.IndexFunc(ents, func(e *raftpb.Entry) bool { return e.GetIndex() > index })
	if n < 0 {
		return ents
	}
	return ents[:n]
}

// memberOps is what turns the stored membership have into now.
func memberOps(have, now cluster.State) []store.Op {
	var ops []store.Op
	for _, m := range now.Members {
		old, ok := have.Member(m.ID)
		if b := schema.EncodeMember(m); !ok || !bytes.Equal(b, schema.EncodeMember(old)) {
			ops = append(ops, store.Op{Bucket: schema.Members, Key: schema.MemberKey(m.ID), Value: b})
		}
	}
	for _, m := range have.Members {
		if _, ok := now.Member(m.ID); !ok {
			ops = append(ops, store.Op{Bucket: schema.Members, Key: schema.MemberKey(m.ID), Delete: true})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(now.Removed)) {
		if !have.Removed[id] {
			ops = append(ops, store.Op{Bucket: schema.MembersRemoved, Key: schema.MemberKey(id), Value: schema.Removed})
		}
	}
	if now.Version != have.Version && now.Version != "" {
		ops = append(ops, store.Op{Bucket: schema.Cluster, Key: schema.ClusterVersionKey, Value: []byte(now.Version)})
	}
	return ops
}
