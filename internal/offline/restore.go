package offline

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/config"
	"keelson/internal/kit/vfs"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// Restore says what to make of a snapshot: the data directory of one member of a new cluster. Each member's is made from
// the same snapshot, with the same Cluster and Token.
type Restore struct {
	// Snapshot is the path of the snapshot, or of a copied state file.
	Snapshot string
	// Name is the member's name, one of those in Cluster ("name=url,name=url").
	Name, Cluster, Token string
	// PeerURLs are the member's, as Cluster has them.
	PeerURLs []string
	// DataDir and WALDir are where to write. DataDir must not exist or be empty (default: Name.etcd), WALDir must not
	// exist (default: member/wal in DataDir).
	DataDir, WALDir string
	// SkipHashCheck takes a file without a checksum, or with a wrong one.
	SkipHashCheck bool
	// MapBytes is the address space to reserve for the state file; 0: 10 GiB.
	MapBytes uint64
	// BumpRevision is added to the newest revision, which then counts as compacted: watchers and cached lists of the old
	// cluster's time learn that they must start anew. 0: nothing of that.
	BumpRevision uint64
	// Resolve looks up host names of peer URLs that are written in two ways.
	Resolve func(host string) ([]string, error)
	// FS is the disk; nil: the machine's. The state file is always the machine's.
	FS     vfs.FS
	Logger *zap.Logger

	segmentBytes int64 // of the log; 0: etcd's
}

// firstTerm is the term of the entries that a new cluster's log begins with.
const firstTerm = 1

// stagedSuffix names what is not whole yet.
const stagedSuffix = ".part"

// Run makes the directory. Where it fails, nothing is left behind.
func (r Restore) Run() (err error) {
	if r.FS == nil {
		r.FS = vfs.OS
	}
	if r.Logger == nil {
		r.Logger = zap.NewNop()
	}
	if r.DataDir == "" {
		r.DataDir = r.Name + ".etcd"
	}
	f, err := r.founding()
	if err != nil {
		return err
	}
	src, err := openSource(r.Snapshot, waitForSnapshot, r.SkipHashCheck)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if !src.hashed && !r.SkipHashCheck {
		return fmt.Errorf("%w: %s has no checksum behind it; give --skip-hash-check if it was copied from a data directory while no member used it", ErrNoHash, r.Snapshot)
	}
	d, err := newDirs(r.FS, r.DataDir, r.WALDir)
	if err != nil {
		return err
	}
	r.Logger.Info("restoring snapshot", r.describe(d)...)
	if err := d.build(func() error { return r.write(src, f, d) }); err != nil {
		return fmt.Errorf("restore %s: %w", r.Snapshot, err)
	}
	r.Logger.Info("restored snapshot", r.describe(d)...)
	return nil
}

func (r Restore) describe(d *dirs) []zap.Field {
	return []zap.Field{
		zap.String("path", r.Snapshot), zap.String("wal-dir", d.wal.last), zap.String("data-dir", d.data),
		zap.String("snap-dir", filepath.Join(d.member.last, "snap")), zap.Uint64("initial-memory-map-size", r.MapBytes),
	}
}

// founding is the new cluster, and which of its members this is.
type founding struct {
	members       []schema.Member // by ascending ID
	id, clusterID uint64
}

func (r Restore) founding() (*founding, error) {
	own, err := types.NewURLs(r.PeerURLs)
	if err != nil {
		return nil, fmt.Errorf("--initial-advertise-peer-urls: %w", err)
	}
	if strings.TrimSpace(r.Cluster) == "" {
		return nil, fmt.Errorf("--initial-cluster is empty: name every member of the new cluster, such as %s=%s", r.Name, own)
	}
	c := config.Cluster{AdvertisePeer: own, Initial: r.Cluster, Resolve: r.Resolve}
	urls, err := c.Founders(r.Name)
	if err != nil {
		return nil, err
	}
	f := &founding{}
	for name, u := range urls {
		m := schema.Member{ID: cluster.MemberID(u.StringSlice(), r.Token), Name: name, PeerURLs: u.StringSlice()}
		if name == r.Name {
			f.id = m.ID
		}
		f.members = append(f.members, m)
	}
	slices.SortFunc(f.members, func(a, b schema.Member) int { return cmp.Compare(a.ID, b.ID) })
	f.clusterID = cluster.ID(f.ids())
	return f, nil
}

func (f *founding) ids() []uint64 {
	ids := make([]uint64, len(f.members))
	for i, m := range f.members {
		ids[i] = m.ID
	}
	return ids
}

// last is the index of the last of the entries that add the members, with which the log begins.
func (f *founding) last() uint64 { return uint64(len(f.members)) }

func (f *founding) confState() *raftpb.ConfState { return &raftpb.ConfState{Voters: f.ids()} }

// write makes everything in the directories that are not in their place yet.
func (r Restore) write(src *source, f *founding, d *dirs) error {
	snapDir := filepath.Join(d.member.staged, "snap")
	if err := os.Mkdir(snapDir, dirMode); err != nil {
		return err
	}
	db := filepath.Join(snapDir, "db")
	if err := copyState(db, src); err != nil {
		return err
	}
	if err := store.EditFile(db, waitForSnapshot, r.MapBytes, func(e *store.Edit) error { return r.adopt(e, f) }); err != nil {
		return explain(r.Snapshot, err)
	}
	if err := f.writeLog(r.FS, d.wal.staged, wal.Options{SegmentBytes: r.segmentBytes, Logger: r.Logger}); err != nil {
		return err
	}
	return f.writeSnap(r.FS, snapDir)
}

// adopt turns the state of a member of the old cluster into that of one of the new, at the end of the log that
// writeLog makes. Keys, leases, users and alarms stay.
func (r Restore) adopt(e *store.Edit, f *founding) error {
	if err := errors.Join(e.Clear(schema.Members), e.Clear(schema.MembersRemoved)); err != nil {
		return err
	}
	for _, m := range f.members {
		if err := e.Put(schema.Members, schema.MemberKey(m.ID), schema.EncodeMember(m)); err != nil {
			return err
		}
	}
	if r.BumpRevision > 0 {
		if err := r.bump(e); err != nil {
			return err
		}
	}
	conf := f.confState()
	conf.AutoLeave = new(false) // as in the JSON of a member that has applied a change
	return errors.Join(
		e.Put(schema.Meta, schema.ConfStateKey, schema.ConfStateJSON(conf)),
		e.Put(schema.Meta, schema.ConsistentIndexKey, binary.BigEndian.AppendUint64(nil, f.last())),
		e.Put(schema.Meta, schema.TermKey, binary.BigEndian.AppendUint64(nil, firstTerm)),
	)
}

// bump writes an empty revision after the newest, and a compaction at it, which the member carries out when it starts.
func (r Restore) bump(e *store.Edit) error {
	rev, err := e.LastRev()
	if err != nil {
		return err
	}
	if r.BumpRevision > math.MaxInt64 || rev > math.MaxInt64-int64(r.BumpRevision) {
		return fmt.Errorf("--bump-revision %d: the newest revision is %d, and none is greater than %d", r.BumpRevision, rev, int64(math.MaxInt64))
	}
	bumped := schema.Revision{Main: rev + int64(r.BumpRevision)}
	r.Logger.Info("bumping latest revision", zap.Int64("latest-revision", rev), zap.Uint64("bump-amount", r.BumpRevision), zap.Int64("new-latest-revision", bumped.Main))
	r.Logger.Info("marking revision compacted", zap.Int64("revision", bumped.Main))
	return errors.Join(
		e.Put(schema.Key, schema.RevisionKey(bumped, false), []byte{}),
		e.Put(schema.Meta, schema.ScheduledCompactKey, schema.RevisionKey(bumped, false)),
	)
}

// writeLog makes a log that adds the members and has a snapshot record behind them: a member replays nothing.
func (f *founding) writeLog(fsys vfs.FS, dir string, o wal.Options) error {
	w, err := wal.Create(fsys, dir, wal.Metadata{NodeID: f.id, ClusterID: f.clusterID}, o)
	if err != nil {
		return err
	}
	var ents []*raftpb.Entry
	for i, m := range f.members {
		cc := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: &m.ID, Context: schema.EncodeMember(m)}
		data, err := proto.Marshal(cc)
		if err != nil {
			return errors.Join(err, w.Close())
		}
		ents = append(ents, &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: new(uint64(firstTerm)), Index: new(uint64(i + 1)), Data: data,
		})
	}
	// The vote is etcd's: all members must not have voted for different ones in the term of the entries.
	state := &raftpb.HardState{Term: new(uint64(firstTerm)), Vote: new(f.members[0].ID), Commit: new(f.last())}
	mark := &wal.Mark{Index: f.last(), Term: firstTerm, ConfState: f.confState()}
	err = errors.Join(w.Append(wal.Batch{State: state, Entries: ents}), w.Append(wal.Batch{Mark: mark}), w.Sync())
	return errors.Join(err, w.Close())
}

// writeSnap makes the file that etcd 3.6 and older start from. It has no names, as etcd's has none: members publish them.
func (f *founding) writeSnap(fsys vfs.FS, dir string) error {
	members := slices.Clone(f.members)
	for i := range members {
		members[i].Name = ""
	}
	return snap.Save(fsys, dir, snap.Snapshot{
		Index: f.last(), Term: firstTerm, ConfState: f.confState(), Data: snap.EncodeV2(snap.V2Members{Members: members}),
	})
}
