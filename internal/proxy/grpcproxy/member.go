package grpcproxy

import (
	"context"
	"errors"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"keelson/internal/kit/backoff"
)

// member is one watcher of a client. At each moment one goroutine at most feeds it: its group's, or one of its own while it
// catches up. While it is behind nobody does, until its stream has sent what it holds.
type member struct {
	stream        *watchStream
	id            int64
	sight         sight
	wantsProgress bool
	fragment      bool

	// The rest is guarded by stream.mu.

	next   int64 // the first revision that the client has not been given
	behind bool  // it had no room, and nobody feeds it
	inside bool  // it is in a group
	gone   bool
	stop   context.CancelFunc // ends its catching up, if it does
}

// wants gives the first revision that m has not got; it is false where m is gone.
func (m *member) wants() (int64, bool) {
	m.stream.mu.Lock()
	defer m.stream.mu.Unlock()
	return m.next, !m.gone
}

// join tells m that it is in a group.
func (m *member) join() bool {
	m.stream.mu.Lock()
	defer m.stream.mu.Unlock()
	m.inside = !m.gone
	return m.inside
}

// offer queues what m has not seen of b. It is false where m must not be fed any more: it is gone, or behind.
func (m *member) offer(b *batch) bool {
	s := m.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.gone || m.behind {
		return false
	}
	if b.last < m.next {
		return true
	}
	if !s.room(b.bytes) {
		m.behind, m.inside = true, false
		s.behind = append(s.behind, m)
		s.signal()
		return false
	}
	events, bytes := b.events, b.bytes
	if b.first < m.next {
		events = events[sort.Search(len(events), func(i int) bool { return events[i].Kv.ModRevision >= m.next }):]
		bytes = 0
		for _, e := range events {
			bytes += eventBytes(e)
		}
	}
	m.next = b.last + 1
	s.push(queued{resp: &pb.WatchResponse{Header: b.header, WatchId: m.id, Events: events}, bytes: bytes, fragment: m.fragment})
	return true
}

// progressed tells m's client, if it asked, that it has everything up to h's revision.
func (m *member) progressed(h *pb.ResponseHeader) {
	s := m.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.gone || !m.inside {
		return
	}
	if m.wantsProgress && m.next <= h.Revision+1 && s.room(0) {
		s.push(queued{resp: &pb.WatchResponse{Header: h, WatchId: m.id}})
	}
	m.next = max(m.next, h.Revision+1)
	if _, ok := s.progress.awaited[m]; ok {
		s.progress.least = lesser(s.progress.least, h)
		delete(s.progress.awaited, m)
		s.tellProgress()
	}
}

// lesser gives the header of the earlier revision; nil is no header.
func lesser(a, b *pb.ResponseHeader) *pb.ResponseHeader {
	if a == nil || b.Revision < a.Revision {
		return b
	}
	return a
}

// advance tells m that there is nothing before revision next that it has not got.
func (m *member) advance(next int64) {
	m.stream.mu.Lock()
	defer m.stream.mu.Unlock()
	m.next = max(m.next, next)
}

// canceled ends m with what resp says.
func (m *member) canceled(resp *pb.WatchResponse) {
	s := m.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.gone {
		return
	}
	s.forget(m)
	resp.WatchId, resp.Canceled, resp.Header = m.id, true, s.header
	s.push(queued{resp: resp})
}

// ended ends m for err. Without a leader the whole stream ends, as it would at a member.
func (m *member) ended(err error) {
	if errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
		m.stream.fail(rpctypes.ErrGRPCNoLeader)
		return
	}
	m.canceled(&pb.WatchResponse{CancelReason: reason(err)})
}

// follow has m fed again: by its group, or where that has forgotten what m needs, by a watcher of its own.
func (s *Watch) follow(m *member, now int64) {
	if s.attach(m, now) != tooOld {
		return
	}
	ctx, cancel := context.WithCancel(m.sight.caller.outgoing(s.ctx))
	m.stream.mu.Lock()
	gone := m.gone
	m.stop = cancel
	m.stream.mu.Unlock()
	if gone || !s.start(func() { defer cancel(); s.catchUp(ctx, m) }) {
		cancel()
	}
}

// apart keeps watchers that catch up on a stream of their own at the members (the client library has one for each set of
// metadata): a member tells of progress only where every watcher of a stream is up to date.
const apart = "keelson-proxy-behind"

// catchUp watches for m alone until its group can take over.
func (s *Watch) catchUp(ctx context.Context, m *member) {
	pause := backoff.New(s.clock, pauseFirst, pauseMost)
	for {
		next, ok := m.wants()
		if !ok || s.catchUpOnce(ctx, m, next) || pause.Wait(ctx) != nil {
			return
		}
	}
}

// catchUpOnce is catchUp with one watcher at the members. It is true where nothing is left to do.
func (s *Watch) catchUpOnce(ctx context.Context, m *member, next int64) bool {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, apart, "true"))
	defer cancel()
	for wr := range s.watcher.Watch(ctx, m.sight.key, m.sight.options(next)...) {
		err := wr.Err()
		switch {
		case wr.CompactRevision != 0:
			m.canceled(&pb.WatchResponse{CompactRevision: wr.CompactRevision})
			return true
		case err != nil && !passing(err):
			m.ended(err)
			return true
		case err != nil:
		case len(wr.Events) > 0:
			if !m.offer(newBatch(&wr)) || s.attach(m, 0) != tooOld {
				return true
			}
		case wr.IsProgressNotify():
			m.advance(wr.Header.Revision + 1)
			if s.attach(m, 0) != tooOld {
				return true
			}
		}
	}
	return false
}
