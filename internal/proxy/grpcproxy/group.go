package grpcproxy

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"

	"keelson/internal/kit/backoff"
)

// group is the watchers of one sight that are up to date, before one watcher at the members. Its goroutine hands each
// event to them all and waits for none: one that has no room leaves and catches up (member.go).
type group struct {
	watch  *Watch
	sight  sight
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex // guards the rest
	closed  bool       // it is in no map and takes no members
	members map[*member]struct{}
	// at is the revision up to which everything has been handed out.
	at   int64
	ring ring
}

// attached tells what became of a watcher that would join a group.
type attached int

const (
	joined  attached = iota
	tooOld           // the ring begins after what it has seen: it must catch up
	settled          // it is gone, has no room, or the Watch is closed: nothing is left to do here
)

// attach puts m into its group, with what it has not seen of what the group has handed out. now is the members' revision,
// zero where m can't be ahead of it: a group never starts later, or who comes next would find no place in it.
func (s *Watch) attach(m *member, now int64) attached {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[m.sight]
	if g == nil {
		start, ok := m.wants()
		if !ok {
			return settled
		}
		from := max(start-1, 1)
		if now > 0 {
			start = min(start, now+1)
			from = min(start, now)
		}
		g = &group{watch: s, sight: m.sight, members: map[*member]struct{}{}, at: start - 1, ring: ring{floor: start - 1, total: &s.ringBytes}}
		g.ctx, g.cancel = context.WithCancel(m.sight.caller.outgoing(s.ctx))
		if !s.startLocked(func() { g.run(from) }) {
			g.cancel()
			return settled
		}
		s.groups[m.sight] = g
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.add(m)
	s.closeEmpty(g)
	return a
}

// add is attach within g. g.mu is held.
func (g *group) add(m *member) attached {
	next, ok := m.wants()
	switch {
	case !ok:
		return settled
	case next <= g.ring.floor:
		return tooOld
	}
	for _, b := range g.ring.batches {
		if !m.offer(b) {
			return settled
		}
	}
	if !m.join() {
		return settled
	}
	g.members[m] = struct{}{}
	if len(g.members) > 1 {
		g.watch.watchers.Inc()
	}
	return joined
}

// drop takes m out of g. g.mu is held.
func (g *group) drop(m *member) {
	if _, ok := g.members[m]; !ok {
		return
	}
	delete(g.members, m)
	if len(g.members) > 0 {
		g.watch.watchers.Dec()
	}
}

// remove takes m, which is gone, out of its group.
func (s *Watch) remove(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[m.sight]; g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.drop(m)
		s.closeEmpty(g)
	}
}

// closeEmpty ends g where nobody is in it. s.mu and g.mu are held.
func (s *Watch) closeEmpty(g *group) {
	if len(g.members) == 0 && !g.closed {
		g.closed = true
		g.ring.clear()
		g.cancel()
		delete(s.groups, g.sight)
	}
}

// place gives the group's revision for a watcher that starts now.
func (s *Watch) place(v sight) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[v]
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at
}

// run watches at the members until the group is closed. A watcher that breaks is replaced by one that starts where it was. The
// first is from a revision that is there already, if only to pass over it: while one waits for a revision to come, members tell
// of no progress.
func (g *group) run(from int64) {
	defer g.cancel()
	pause := backoff.New(g.watch.clock, pauseFirst, pauseMost)
	for ; g.ctx.Err() == nil; from = g.start() {
		for wr := range g.watch.watcher.Watch(g.ctx, g.sight.key, g.sight.options(from)...) {
			err := wr.Err()
			switch {
			case wr.CompactRevision != 0:
				g.compacted(wr.CompactRevision)
			case err == nil && len(wr.Events) > 0:
				pause.Reset()
				g.broadcast(newBatch(&wr))
			case err == nil && wr.IsProgressNotify():
				g.progress(wr.Header)
			case err != nil && !passing(err):
				g.end(err)
				return
			}
		}
		if pause.Wait(g.ctx) != nil {
			return
		}
	}
}

// start is the first revision that the group has not handed out.
func (g *group) start() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at + 1
}

// broadcast hands b to every member. Who has no room leaves.
func (g *group) broadcast(b *batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || b.last <= g.at {
		return
	}
	for m := range g.members {
		if !m.offer(b) {
			g.drop(m)
		}
	}
	if n := len(g.members); n > 1 {
		g.watch.events.Add(float64((n - 1) * len(b.events)))
	}
	g.at = b.last
	g.ring.add(b)
}

// progress tells of a revision up to which there is nothing more.
func (g *group) progress(h *pb.ResponseHeader) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = max(g.at, h.Revision)
	for m := range g.members {
		m.progressed(h)
	}
}

// compacted cancels the members that need what is compacted. The group goes on for the others.
func (g *group) compacted(rev int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.members {
		if next, ok := m.wants(); ok && next < rev {
			m.canceled(&pb.WatchResponse{CompactRevision: rev})
			g.drop(m)
		}
	}
	g.at = max(g.at, rev-1)
	g.ring.clear()
	g.ring.floor = g.at
}

// end cancels every member: the members of the cluster have refused the group's watcher, or ended it.
func (g *group) end(err error) {
	s := g.watch
	s.mu.Lock()
	defer s.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.members {
		m.ended(err)
		g.drop(m)
	}
	s.closeEmpty(g)
}

// reason is how a watcher's cancellation tells why: the status as grpc writes it, or what a member has written.
func reason(err error) string {
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		return status.Error(known.Code(), known.Error()).Error()
	}
	return err.Error()
}

// batch is events that came together: all of the revisions from first to last that the sight has. It is shared and never
// changed.
type batch struct {
	header      *pb.ResponseHeader
	events      []*mvccpb.Event
	first, last int64
	bytes       int
}

func newBatch(wr *clientv3.WatchResponse) *batch {
	b := &batch{header: wr.Header, events: wr.Events, first: wr.Events[0].Kv.ModRevision, last: wr.Events[len(wr.Events)-1].Kv.ModRevision}
	for _, e := range b.events {
		b.bytes += eventBytes(e)
	}
	return b
}

// eventBytes is about what e takes in memory and on the wire.
func eventBytes(e *mvccpb.Event) int {
	const fixed = 64 // revisions, lengths, pointers
	n := fixed + len(e.Kv.Key) + len(e.Kv.Value)
	if e.PrevKv != nil {
		n += fixed + len(e.PrevKv.Key) + len(e.PrevKv.Value)
	}
	return n
}
