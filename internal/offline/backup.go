package offline

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/apply"
	"keelson/internal/kit/vfs"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// Backup copies the data directory of a member to one that starts with --force-new-cluster as the only member of a new
// cluster: the newest .snap file, the log behind it and the state file, without anything that says who the members were.
// Entries keep their indexes: those that are left out stay as empty ones.
type Backup struct {
	// DataDir and WALDir are what to copy; WALDir's default is member/wal in DataDir.
	DataDir, WALDir string
	// ToDir and ToWALDir are where to. ToDir must not exist or be empty, ToWALDir must not exist (default: member/wal in
	// ToDir).
	ToDir, ToWALDir string
	// WithV3 copies the state file and the entries of the v3 API. They are copied in any case where the directory has no v2
	// keys of etcd's own: a Keelson's v2 keys are in its state file.
	WithV3 bool
	Logger *zap.Logger

	segmentBytes int64 // of the log; 0: etcd's
}

// backupSource is what is read of a directory.
type backupSource struct {
	log  *wal.Contents
	snap *snap.Snapshot // nil: the log goes back to its beginning
	// v2 tells whether there is any v2 key in either.
	v2      bool
	content []apply.Content // of each entry
}

// Run makes the copy. Where it fails, nothing is left behind.
func (b Backup) Run() error {
	src, err := b.read()
	if err != nil {
		return fmt.Errorf("backup of %s: %w", b.DataDir, err)
	}
	withV3 := b.WithV3 || !src.v2
	d, err := newDirs(vfs.OS, b.ToDir, b.ToWALDir)
	if err != nil {
		return err
	}
	if err := d.build(func() error { return b.write(src, d, withV3) }); err != nil {
		return fmt.Errorf("backup of %s: %w", b.DataDir, err)
	}
	b.Logger.Info("backed up", zap.String("from", b.DataDir), zap.String("to", d.data), zap.String("wal-dir", d.wal.last),
		zap.Uint64("commit-index", src.log.State.GetCommit()), zap.Bool("with-v3", withV3))
	return nil
}

// read takes no lock: the log of a running member is read as far as it is whole.
func (b Backup) read() (*backupSource, error) {
	dir := b.WALDir
	if dir == "" {
		dir = filepath.Join(b.DataDir, "member", "wal")
	}
	c, err := wal.ReadOnly(vfs.OS, dir, b.Logger)
	if err != nil {
		return nil, err
	}
	src := &backupSource{log: c}
	if c.Mark.Index > 0 {
		s, err := snap.Load(vfs.OS, filepath.Join(b.DataDir, "member", "snap"), func(index, term uint64) bool {
			return index == c.Mark.Index && term == c.Mark.Term
		})
		if err != nil {
			return nil, fmt.Errorf("the .snap file that the log goes on from (term %d, index %d): %w", c.Mark.Term, c.Mark.Index, err)
		}
		_, err = snap.DecodeV2(s.Data)
		if src.v2 = errors.Is(err, snap.ErrV2UserData); err != nil && !src.v2 {
			return nil, err
		}
		src.snap = &s
	}
	return src, src.classify()
}

// classify tells the entries apart, and whether any writes a v2 key.
func (src *backupSource) classify() error {
	for _, e := range src.log.Entries {
		k, err := apply.ContentOf(e)
		if err != nil {
			return err
		}
		src.content = append(src.content, k)
		src.v2 = src.v2 || k == apply.ContentV2
	}
	return nil
}

// entries gives the log without the members, and without the v3 API's requests where those are not wanted.
func (src *backupSource) entries(withV3 bool) []*raftpb.Entry {
	out := make([]*raftpb.Entry, len(src.log.Entries))
	for i, e := range src.log.Entries {
		out[i] = e
		if k := src.content[i]; k == apply.ContentMembers || k == apply.ContentV3 && !withV3 {
			out[i] = &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Term: e.Term, Index: e.Index}
		}
	}
	return out
}

// write makes everything in the directories that are not in their place yet.
func (b Backup) write(src *backupSource, d *dirs, withV3 bool) error {
	snapDir := filepath.Join(d.member.staged, "snap")
	if err := os.Mkdir(snapDir, dirMode); err != nil {
		return err
	}
	db := filepath.Join(snapDir, "db")
	if err := b.writeState(db, src, withV3); err != nil {
		return err
	}
	if src.snap != nil {
		if err := snap.Save(vfs.OS, snapDir, *src.snap); err != nil {
			return err
		}
	}
	return b.writeLog(src, d.wal.staged, withV3)
}

// writeState makes the state file: a copy without the members, or one that holds nothing but how far the log is in it.
func (b Backup) writeState(db string, src *backupSource, withV3 bool) error {
	if !withV3 {
		commit := src.log.State.GetCommit()
		return store.MakeFile(db, func(e *store.Edit) error {
			return e.Put(schema.Meta, schema.ConsistentIndexKey, binary.BigEndian.AppendUint64(nil, commit))
		})
	}
	var state *source
	path := statePath(b.DataDir)
	err := patiently(0, b.Logger, path, func(wait time.Duration) (err error) {
		state, err = openSource(path, wait, true)
		return err
	})
	if err != nil {
		return err
	}
	if err := errors.Join(copyState(db, state), state.Close()); err != nil {
		return err
	}
	err = store.EditFile(db, waitForSnapshot, 0, func(e *store.Edit) error {
		return errors.Join(e.Clear(schema.Members), e.Clear(schema.MembersRemoved), e.Clear(schema.Cluster))
	})
	return explain(path, err)
}

// writeLog makes a log with a new identity, so that the copy can never be taken for the member that it was made of.
func (b Backup) writeLog(src *backupSource, dir string, withV3 bool) error {
	var ids [16]byte
	_, _ = rand.Read(ids[:]) // never fails
	md := wal.Metadata{NodeID: binary.BigEndian.Uint64(ids[:8]) | 1, ClusterID: binary.BigEndian.Uint64(ids[8:]) | 1}
	w, err := wal.Create(vfs.OS, dir, md, wal.Options{SegmentBytes: b.segmentBytes, Logger: b.Logger})
	if err != nil {
		return err
	}
	if mark := src.log.Mark; src.snap != nil {
		if mark.ConfState == nil {
			mark.ConfState = src.snap.ConfState // etcd up to 3.4 leaves it to the .snap file
		}
		err = w.Append(wal.Batch{Mark: &mark})
	}
	err = errors.Join(err, w.Append(wal.Batch{Entries: src.entries(withV3), State: src.log.State}), w.Sync())
	return errors.Join(err, w.Close())
}
