package server

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"

	"keelson/internal/kit/clock"
	"keelson/internal/state/alarm"
	"keelson/internal/state/cluster"
	"keelson/internal/state/mvcc"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// Maintenance tells how the member is.
type Maintenance struct {
	*Defragmenter
	identity
	machine *machine
	store   *store.Store
	cluster *cluster.Cluster
	alarms  *alarm.Set
	quota   *quota
	kv      *mvcc.Store
	clock   clock.Clock
	observe *Observer
	// sendables streams snapshots.
	sendables *sendables
	// moveTimeout bounds a transfer of leadership.
	moveTimeout time.Duration
}

func hexID(id uint64) string { return strconv.FormatUint(id, 16) }

// Status answers for this member alone, leader or not.
func (s *Maintenance) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	st, cs := s.loop.Status(), s.cluster.State()
	storage, err := s.store.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil {
		return nil, err
	}
	resp := &pb.StatusResponse{
		Header: s.headerPB(), Version: version.Version,
		DbSize: s.store.Size(), DbSizeInUse: s.store.SizeInUse(), DbSizeQuota: s.quota.told,
		Leader: st.Lead, RaftIndex: st.Commit, RaftTerm: st.Term, RaftAppliedIndex: s.machine.applied(),
		IsLearner: s.IsLearner(), StorageVersion: string(storage),
		DowngradeInfo: &pb.DowngradeInfo{Enabled: cs.Downgrade.Enabled, TargetVersion: cs.Downgrade.TargetVersion},
	}
	if st.Lead == 0 {
		resp.Errors = append(resp.Errors, ErrNoLeader.Error())
	}
	for _, a := range s.alarms.List(pb.AlarmType_NONE) {
		resp.Errors = append(resp.Errors, a.String())
	}
	return resp, nil
}

// Snapshot writes the store's file, as of now, to the writer that begin gives for its size and storage version. It holds
// nobody up: the file is read in a transaction of its own, which ends soon after the writer takes nothing any more.
func (s *Maintenance) Snapshot(ctx context.Context, begin func(size int64, storageVersion string) io.Writer) error {
	start := s.clock.Now()
	snap, err := s.store.Snapshot(ctx, s.machine.applied())
	if err != nil {
		return err
	}
	v, err := snap.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil {
		return errors.Join(err, snap.Close())
	}
	w := begin(snap.Size(), string(v))
	r := s.sendables.send(snap)
	defer func() { _ = r.Close() }() // where the writer failed
	_, err = io.Copy(w, r)
	if s.observe.Backup != nil {
		s.observe.Backup(s.clock.Now().Sub(start))
	}
	return err
}

// MoveLeader hands leadership to another voter.
func (s *Maintenance) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if st := s.loop.Status(); st.Lead != st.ID {
		return nil, ErrNotLeader
	}
	if m, ok := s.cluster.State().Member(r.TargetID); !ok || m.IsLearner {
		return nil, ErrBadTransferee
	}
	ctx, cancel := context.WithTimeout(ctx, s.moveTimeout)
	defer cancel()
	if err := s.loop.TransferLeadership(ctx, r.TargetID); err != nil {
		return nil, ErrTimeoutLeaderTransfer
	}
	return &pb.MoveLeaderResponse{Header: s.headerPB()}, nil
}

// Versions gives the cluster's version and the store's, empty while undecided.
func (s *Maintenance) Versions() (clusterVersion, storageVersion string) {
	v, err := s.store.Get(schema.Meta, schema.StorageVersionKey)
	if err != nil {
		v = nil // the store has failed, and with it the member: who asks learns that elsewhere
	}
	return s.cluster.State().Version, string(v)
}

// Hash gives the hash of the whole store file's content, for tests: it differs between members that are not in step.
func (s *Maintenance) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	rev := s.kv.View().Rev()
	if err := s.store.Sync(ctx, s.machine.applied()); err != nil {
		return nil, err
	}
	start := s.clock.Now()
	h, m, err := s.store.Hash(ctx)
	if err != nil {
		return nil, err
	}
	s.hashed(false, start)
	resp := &pb.HashResponse{Header: s.headerPB(), Hash: h}
	resp.Header.Revision = max(rev, m.Rev) // the file does not name the revision where no key is left
	return resp, nil
}

// HashKV gives the hash of all revisions up to the asked one (0: now). Members with the same history agree.
func (s *Maintenance) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	resp := &pb.HashKVResponse{Header: s.headerPB(), HashRevision: r.Revision}
	// A compaction's own revision is answered from what was there before it, even after later ones.
	if h, ok := s.store.CompactionHash(r.Revision); ok && r.Revision != 0 {
		resp.Hash, resp.CompactRevision = h.Hash, h.CompactRev
		return resp, nil
	}
	if r.Revision > resp.Header.Revision {
		return nil, mvcc.ErrFutureRev
	}
	h, err := s.hashAt(ctx, r.Revision)
	if err != nil {
		return nil, err
	}
	resp.Header.Revision = h.Current
	resp.Hash, resp.HashRevision, resp.CompactRevision = h.Hash, h.Rev, h.CompactRev
	return resp, nil
}

// hashAt gives the hash of all revisions up to rev (0: now), of the file as it is once all that was applied is in it.
func (s *Maintenance) hashAt(ctx context.Context, rev int64) (store.KVHash, error) {
	if err := s.store.Sync(ctx, s.machine.applied()); err != nil {
		return store.KVHash{}, err
	}
	start := s.clock.Now()
	h, err := s.store.HashAt(ctx, rev)
	s.hashed(true, start)
	switch {
	case err != nil:
		return h, err
	case h.Rev > h.Current:
		return h, mvcc.ErrFutureRev
	case !h.Holds():
		return h, mvcc.ErrCompacted
	}
	return h, nil
}

func (s *Maintenance) hashed(revisions bool, start time.Time) {
	if s.observe.Hash != nil {
		s.observe.Hash(revisions, s.clock.Now().Sub(start))
	}
}

// IsLearner tells whether this member does not vote.
func (s *Maintenance) IsLearner() bool {
	m, ok := s.cluster.State().Member(s.id)
	return ok && m.IsLearner
}

// HasLeader tells whether this member knows a leader.
func (s *Maintenance) HasLeader() bool { return s.loop.Status().Lead != 0 }
