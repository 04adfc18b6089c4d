package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
)

// receiver takes what the network receives.
type receiver struct {
	loop      *raftloop.Loop
	cluster   *cluster.Cluster
	sendables *sendables
	fs        vfs.FS
	snapDir   string
	id        uint64
	fail      func(error)
	clock     clock.Clock
	// saved and received are told of each .snap file and each state file; nil: nobody wants to know.
	saved, received func(snap.Times)
}

var _ Receiver = (*receiver)(nil)

// Step hands a message to raft.
func (r *receiver) Step(ctx context.Context, m *raftpb.Message) error { return r.loop.Step(ctx, m) }

// ReceiveSnapshot saves the db file of a snapshot message and then hands the message to raft: the log never names a file
// that isn't there.
func (r *receiver) ReceiveSnapshot(ctx context.Context, m *raftpb.Message, db io.Reader) error {
	md := m.GetSnapshot().GetMetadata()
	t, err := snap.ReceiveDB(r.fs, r.snapDir, md.GetIndex(), db, r.clock)
	if err != nil {
		return fmt.Errorf("server: receive the snapshot at index %d: %w", md.GetIndex(), err)
	}
	if r.received != nil {
		r.received(t)
	}
	// Once the log has a record of it there is no way back.
	if err := checkReceived(r.fs, r.snapDir, md.GetIndex()); err != nil {
		return errors.Join(err, os.Remove(r.fs.OSPath(snap.DBPath(r.snapDir, md.GetIndex()))))
	}
	return r.loop.Step(ctx, m)
}

// checkReceived refuses a received file that does not hold what its snapshot says.
func checkReceived(fs vfs.FS, dir string, index uint64) error {
	m, err := store.ReadMark(fs.OSPath(snap.DBPath(dir, index)))
	if err != nil {
		return fmt.Errorf("server: the state file of the snapshot at index %d: %w", index, err)
	}
	if m.Index != index {
		return fmt.Errorf("server: the snapshot at index %d holds state up to %d: its sender is faulty", index, m.Index)
	}
	return nil
}

// saveReceived writes the .snap file of an incoming snapshot, which a stock member that opens the directory later looks
// for, before the log gets its record.
func (r *receiver) saveReceived(s *raftpb.Snapshot) error {
	md := s.GetMetadata()
	t, err := snap.SaveTimed(r.fs, r.snapDir, snap.Snapshot{
		Index: md.GetIndex(), Term: md.GetTerm(), ConfState: md.GetConfState(), Data: s.GetData(),
	}, r.clock)
	if err == nil && r.saved != nil {
		r.saved(t)
	}
	return err
}

// OpenSnapshot gives the db file of an outgoing snapshot message.
func (r *receiver) OpenSnapshot(m *raftpb.Message) (io.ReadCloser, int64, error) {
	return r.sendables.open(m)
}

// ReportUnreachable tells raft that messages to a member are lost.
func (r *receiver) ReportUnreachable(id uint64) { r.loop.ReportUnreachable(id) }

// ReportSnapshot tells raft whether a snapshot arrived.
func (r *receiver) ReportSnapshot(id uint64, ok bool) { r.loop.ReportSnapshot(id, ok) }

// Removed tells whether a member was removed for good.
func (r *receiver) Removed(id uint64) bool { return r.cluster.State().Removed[id] }

// PeerDead tells raft that the process of a member is gone. If it led, the others elect without waiting, in the order of
// their IDs.
func (r *receiver) PeerDead(id uint64) {
	rank := 0
	for _, v := range r.cluster.State().Conf.GetVoters() {
		if v < r.id && v != id {
			rank++
		}
	}
	r.loop.SuspectLeader(id, rank)
}

// Expelled ends this member: another one knows it as removed.
func (r *receiver) Expelled() { r.fail(ErrRemoved) }
