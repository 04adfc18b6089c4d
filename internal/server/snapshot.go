package server

import (
	"context"
	"errors"
	"sync/atomic"

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
	turn chan struct{}
	made uint64 // index of the newest record; of the token's holder
}

// point is the membership as of one applied entry.
type point struct {
	mark
	state *cluster.State
}

// note is told what every applied run ended with, by the apply thread.
func (s *snapshotter) note(p point) {
	if p.index-s.last.Load() < s.every {
		return
	}
	select {
	case s.wants <- p:
		s.last.Store(p.index)
	default:
		// The one before is still being made: this one is due again at the next run.
	}
}

// run makes snapshots until ctx is done.
func (s *snapshotter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-s.wants:
			if err := s.make(ctx, p); err != nil && ctx.Err() == nil {
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
	if p.index <= s.made {
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
		return nil // the store came with more than the log has: the next point will do
	}
	if err != nil {
		return err
	}
	s.made = p.index
	s.logger.Info("saved snapshot to disk", zap.Uint64("snapshot-index", p.index))
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
