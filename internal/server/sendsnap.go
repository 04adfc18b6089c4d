package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/apply"
	"keelson/internal/kit/clock"
	"keelson/internal/storage/store"
)

// A snapshot that was made for a follower and not fetched for this long is dropped: its read transaction keeps pages of
// the store from being used again.
const sendableExpiry = 30 * time.Second

// A follower, or a client, that takes nothing of a snapshot for this long is given up, for the same reason. etcd has no such
// bound; a follower that still loads what it got takes the next bytes when its disk has taken the last ones.
const sendStall = time.Minute

// sendables makes snapshots for followers that lag behind the log, and sends them to these and to clients. Raft asks on its own thread and must not wait, so
// the first question starts the work and is answered "not yet"; a later one gets the metadata, and the transport then
// fetches the file that belongs to it: both come from one read transaction of the store.
type sendables struct {
	store   *store.Store
	applied func() uint64
	clock   clock.Clock
	logger  *zap.Logger
	ctx     context.Context // ends with the member

	mu     sync.Mutex // guards the rest
	making bool
	ready  *sendable
	going  map[*outgoing]struct{}
	work   sync.WaitGroup
}

// outgoing is a snapshot on its way. Its file goes through a pipe to whoever sends it.
type outgoing struct {
	*io.PipeWriter
	clock clock.Clock
	moved atomic.Int64 // when bytes last went on, in Unix nanoseconds
}

func (o *outgoing) Write(p []byte) (int, error) {
	n, err := o.PipeWriter.Write(p)
	o.moved.Store(o.clock.Now().UnixNano())
	return n, err
}

type sendable struct {
	meta  *raftpb.Snapshot
	snap  *store.Snapshot
	since time.Time
}

// errStalled is returned to the sender of a snapshot of which nobody takes anything.
var errStalled = errors.New("server: nothing of the snapshot was taken for a minute")

// errNotSendable is returned when the file of a snapshot message is gone.
var errNotSendable = errors.New("server: the snapshot's file is gone; another will be made")

// metadata answers raft's question for a snapshot.
func (s *sendables) metadata() (*raftpb.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready != nil {
		return s.ready.meta, nil
	}
	if !s.making && s.ctx.Err() == nil {
		s.making = true
		s.work.Go(s.make)
	}
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

func (s *sendables) make() {
	snap, err := s.store.Snapshot(s.ctx, s.applied())
	var meta *raftpb.Snapshot
	if err == nil {
		meta, err = describe(snap)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making = false
	if err != nil {
		s.logger.Warn("failed to make a snapshot for a follower; raft will ask again", zap.Error(err))
		if snap != nil {
			_ = snap.Close()
		}
		return
	}
	s.ready = &sendable{meta: meta, snap: snap, since: s.clock.Now()}
}

// describe reads a snapshot's membership from the snapshot itself, so that metadata and file are of one index.
func describe(s *store.Snapshot) (*raftpb.Snapshot, error) {
	st, err := apply.LoadCluster(s)
	if err != nil {
		return nil, err
	}
	return metadata(mark{s.Mark.Index, s.Mark.Term}, &st), nil
}

// open hands over the file that belongs to an outgoing snapshot message, once.
func (s *sendables) open(m *raftpb.Message) (io.ReadCloser, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready == nil || s.ready.meta.GetMetadata().GetIndex() != m.GetSnapshot().GetMetadata().GetIndex() {
		return nil, 0, fmt.Errorf("%w: index %d", errNotSendable, m.GetSnapshot().GetMetadata().GetIndex())
	}
	snap := s.ready.snap
	size := snap.Size() // asked of the open transaction
	s.ready = nil
	return s.start(snap), size, nil
}

// send streams a snapshot and closes it: once all of it was read, once the reader was closed, and where nothing is read
// for long.
func (s *sendables) send(snap *store.Snapshot) io.ReadCloser {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start(snap)
}

// start is send, under mu.
func (s *sendables) start(snap *store.Snapshot) io.ReadCloser {
	r, w := io.Pipe()
	if s.ctx.Err() != nil { // nobody waits for work any more
		_ = errors.Join(snap.Close(), w.CloseWithError(ErrStopped))
		return r
	}
	o := &outgoing{PipeWriter: w, clock: s.clock}
	o.moved.Store(s.clock.Now().UnixNano())
	if s.going == nil {
		s.going = map[*outgoing]struct{}{}
	}
	s.going[o] = struct{}{}
	s.work.Go(func() {
		_, err := snap.WriteTo(o)
		_ = snap.Close()
		_ = o.CloseWithError(err)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.going, o)
	})
	return r
}

// expire drops a snapshot that nobody fetched, and ends those that nobody takes any more; all: every one.
func (s *sendables) expire(all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready != nil && (all || s.clock.Now().Sub(s.ready.since) > sendableExpiry) {
		_ = s.ready.snap.Close()
		s.ready = nil
	}
	why := errStalled
	if all {
		why = ErrStopped
	}
	for o := range s.going {
		if all || s.clock.Now().UnixNano()-o.moved.Load() > int64(sendStall) {
			_ = o.CloseWithError(why)
		}
	}
}
