package server

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
	"keelson/internal/storage/wal"
)

// snapshotter shortens the log: every so many applied entries it makes the store catch up with one applied index X and
// records X in the log, which may then forget what came before. Its one goroutine is started by run.
//
// The order is what a stock member relies on when it opens the directory: the store holds X; then the .snap file of X
// is synced; then, behind a hard state that commits X, the record; only then do segments go.
type snapshotter struct {
	fs     vfs.FS
	clock  clock.Clock
	saved  func(snap.Times) // nil: nobody wants to know
	dir    string           // member/snap
	keep   uint             // .snap files, 0: all
	every  uint64           // entries
	store  *store.Store
	loop   *raftloop.Loop
	logger *zap.Logger
	fail   func(error)

	last  atomic.Uint64 // index of the newest point asked for
	wants chan point
	// turn holds a token while a snapshot is made: at the stop of the member the one asked for then waits for
	// the one under way, which may be of the same index.
	turn    chan struct{}
	records records
}

// records says how far the log is recorded, and how far it has to be soon.
type records struct {
	// newest is the index of the newest record in the log.
	newest atomic.Uint64
	// owed is the index that a record has to reach, whatever interval is kept: the log holds entries up to there that a
	// stock member which is to open it does not read. 0: none.
	owed atomic.Uint64
	// version is the cluster version of the newest point noted; of the apply thread.
	version string
	// settled is called after a record that was owed.
	settled func()
}

// note is told the cluster version as of an index. A fall must be recorded: who goes down does not read what is before it.
func (r *records) note(index uint64, version string) (fell bool) {
	now, err := semver.NewVersion(version)
	before, err2 := semver.NewVersion(r.version)
	if fell = err == nil && err2 == nil && now.LessThan(*before); fell {
		r.owed.Store(index)
	}
	r.version = version
	return fell
}

// reach is told that the log is recorded at index.
func (r *records) reach(index uint64) {
	r.newest.Store(max(index, r.newest.Load()))
	if owed := r.owed.Load(); owed != 0 && index >= owed && r.owed.CompareAndSwap(owed, 0) {
		r.settled()
	}
}

// point is the membership as of one applied entry.
type point struct {
	mark
	state *cluster.State
}

// note is told what every applied run ended with, by the apply thread.
func (s *snapshotter) note(p point) {
	if s.records.note(p.index, p.state.Version) {
		s.logger.Info("Cluster version downgrade detected, forcing snapshot", zap.String("new-cluster-version", p.state.Version))
	}
	last, owed := s.last.Load(), s.records.owed.Load()
	if p.index-last < s.every && (owed == 0 || p.index < owed || last >= owed) {
		return
	}
	// One that waits while another is made gives way to the newer.
	select {
	case <-s.wants:
	default:
	}
	s.last.Store(p.index) // before: whoever makes it may take that back
	s.wants <- p
}

// begin takes over what a start found.
func (s *snapshotter) begin(o *opened) {
	s.last.Store(o.recorded.index)
	s.records.newest.Store(o.recorded.index)
	s.records.owed.Store(o.unreadable)
	s.records.version = o.state.Cluster.State().Version
}

// restart follows an installed snapshot: the log begins anew behind it. It is called by the apply thread.
func (s *snapshotter) restart(index uint64, version string) {
	s.last.Store(index)
	s.records.version = version
	s.records.reach(index)
}

// run makes snapshots until ctx is done.
func (s *snapshotter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-s.wants:
			// A loop that has stopped of itself tells why: that must not look like a reason beside it.
			if err := s.make(ctx, p); err != nil && ctx.Err() == nil && !errors.Is(err, raftloop.ErrStopped) {
				s.fail(err)
				return
			}
		}
	}
}

// make records p in the log.
func (s *snapshotter) make(ctx context.Context, p point) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.index <= s.records.newest.Load() {
		return nil
	}
	if err := s.store.Sync(ctx, p.index); err != nil {
		return err
	}
	if err := s.save(p); err != nil {
		return err
	}
	err := s.loop.MarkSnapshot(wal.Mark{Index: p.index, Term: p.term, ConfState: p.state.Conf})
	if errors.Is(err, raftloop.ErrPastLog) {
		// The store came with more than the log has: the next point will do, at once where it is owed.
		if s.records.owed.Load() > 0 {
			s.last.Store(0)
		}
		return nil
	}
	if err != nil {
		return err
	}
	s.logger.Info("saved snapshot to disk", zap.Uint64("snapshot-index", p.index))
	s.records.reach(p.index)
	return snap.Purge(s.fs, s.dir, int(s.keep))
}

// save writes the .snap file of p.
func (s *snapshotter) save(p point) error {
	t, err := snap.SaveTimed(s.fs, s.dir, snap.Snapshot{Index: p.index, Term: p.term, ConfState: p.state.Conf, Data: encodeV2(p.state)}, s.clock)
	if err == nil && s.saved != nil {
		s.saved(t)
	}
	return err
}

// encodeV2 gives the membership as the JSON of the v2 store, which members up to 3.6 read from a .snap file and from
// a snapshot message.
func encodeV2(s *cluster.State) []byte {
	v := snap.V2Members{Members: s.Members, ClusterVersion: s.Version}
	for id := range s.Removed {
		v.Removed = append(v.Removed, id)
	}
	return snap.EncodeV2(v)
}

// metadata gives the raft snapshot of a state.
func metadata(m mark, s *cluster.State) *raftpb.Snapshot {
	return &raftpb.Snapshot{
		Data: encodeV2(s),
		Metadata: &raftpb.SnapshotMetadata{
			Index: &m.index, Term: &m.term, ConfState: proto.Clone(s.Conf).(*raftpb.ConfState),
		},
	}
}
