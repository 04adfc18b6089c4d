package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// snapDir and walDir are where members keep their files.
const (
	snapDir = dataDir + "/member/snap"
	walDir  = dataDir + "/member/wal"
)

// checkSnaps compares what the .snap files on a disk say of the membership with what it was at their index.
func (n *node) checkSnaps() error {
	names, err := n.mem.ReadDir(snapDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range names {
		var index, term uint64
		if _, err := fmt.Sscanf(f.Name(), "%016x-%016x.snap", &term, &index); err != nil || path.Ext(f.Name()) != ".snap" {
			continue
		}
		s, err := snap.Load(n.mem, snapDir, func(i, t uint64) bool { return i == index && t == term })
		if err != nil {
			continue // half a file, left by a crash
		}
		what := fmt.Sprintf("%s of %s", f.Name(), n.name)
		if err := n.cluster.confs.check(what, s.Index, s.ConfState); err != nil {
			return err
		}
		v2, err := snap.DecodeV2(s.Data)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrConf, what, err)
		}
		if err := n.cluster.confs.check("the member list in "+what, s.Index, confStateOf(v2.Members)); err != nil {
			return err
		}
	}
	return nil
}

// confStateOf gives the configuration that a list of members amounts to.
func confStateOf(members []schema.Member) *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	for _, m := range members {
		if m.IsLearner {
			cs.Learners = append(cs.Learners, m.ID)
		} else {
			cs.Voters = append(cs.Voters, m.ID)
		}
	}
	return cs
}

// checkShelf compares what a stopped member's files say of the membership with what it was at their index.
func (n *node) checkShelf() error {
	if err := n.checkSnaps(); err != nil {
		return err
	}
	c, w, err := wal.Open(n.mem, walDir, wal.Options{SegmentBytes: n.cluster.plan.SegmentBytes})
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", n.name, err)
	}
	if err := w.Close(); err != nil {
		return err
	}
	if c.Mark.Index > 0 {
		if err := n.cluster.confs.check("the log's record of "+n.name, c.Mark.Index, c.Mark.ConfState); err != nil {
			return err
		}
	}
	s, err := store.Open(n.mem, snapDir+"/db", store.Options{NoSync: true})
	if err != nil {
		return fmt.Errorf("open the store of %s: %w", n.name, err)
	}
	defer s.Close()
	v, err := s.Get(schema.Meta, schema.ConfStateKey)
	if err != nil {
		return err
	}
	cs, err := schema.ParseConfState(v)
	if err != nil {
		return err
	}
	index := s.Committed().Index
	var members []schema.Member
	err = s.ForEach(schema.Members, func(_, v []byte) error {
		m, err := schema.ParseMember(v)
		members = append(members, m)
		return err
	})
	if err != nil {
		return err
	}
	if err := n.cluster.confs.check("the store of "+n.name, index, cs); err != nil {
		return err
	}
	return n.cluster.confs.check("the member list in the store of "+n.name, index, confStateOf(members))
}
