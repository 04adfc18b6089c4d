package sim

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/server"
)

// weather is how bad a network is.
type weather struct {
	delayMin, delayMax time.Duration
	loss, twice        float64
}

// streams are the ordered connections from one member to another; what goes over different ones may overtake.
const (
	streamAppend = iota // entries
	streamOther
	streams
)

// link is the way from one place to another, by their names: what is cut is a cable, whoever lives at its ends.
type link struct{ from, to string }

// network carries raft's messages between the members of one simulation. One goroutine delivers them, in the order of
// the times at which they arrive.
type network struct {
	journal *journal
	lots    *lots
	wake    chan struct{}
	done    chan struct{}
	begun   time.Time
	deaths  sync.WaitGroup // looks for members that may have gone
	planted planted
	// votes is told of a vote that a member gives whose disk was lost.
	votes func(e *endpoint, m *raftpb.Message)

	mu      sync.Mutex // guards all below
	weather weather
	queue   packets
	sent    uint64
	ends    map[uint64]*endpoint
	cut     map[link]bool
	last    map[link][streams]time.Time
}

// planted are the faults of a network: again tells for which messages a second copy is made that raft does not permit, and
// mute that nobody is told that it was removed.
type planted struct {
	again func(*raftpb.Message) bool
	mute  bool
}

type packet struct {
	from  *endpoint
	to    uint64
	data  []byte
	due   time.Time
	order uint64 // of equal due
}

type packets []packet

func (p packets) Len() int { return len(p) }
func (p packets) Less(i, j int) bool {
	return p[i].due.Before(p[j].due) || p[i].due.Equal(p[j].due) && p[i].order < p[j].order
}
func (p packets) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *packets) Push(x any)   { *p = append(*p, x.(packet)) }
func (p *packets) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}

func newNetwork(j *journal, s seed, w weather) *network {
	n := &network{
		journal: j, lots: s.lots("network"), weather: w, wake: make(chan struct{}, 1), done: make(chan struct{}), begun: time.Now().Add(-time.Minute),
		ends: map[uint64]*endpoint{}, cut: map[link]bool{}, last: map[link][streams]time.Time{},
	}
	return n
}

// run delivers until ctx is done.
func (n *network) run(ctx context.Context) {
	defer close(n.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p, wait := n.next()
		if wait == 0 {
			n.deliver(ctx, p)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-timer.C:
		}
	}
}

// next gives the packet that is due, or how long nothing is.
func (n *network) next() (packet, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == 0 {
		return packet{}, time.Hour
	}
	if wait := time.Until(n.queue[0].due); wait > 0 {
		return packet{}, wait
	}
	return heap.Pop(&n.queue).(packet), 0
}

func (n *network) deliver(ctx context.Context, p packet) {
	to := n.way(p.from, p.to)
	if to == nil {
		return
	}
	if to.recv.Removed(p.from.id) {
		// A real one answers so at whatever the other one asks or sends.
		if n.answers(to, p.from) {
			n.journal.add(to.place, "tells %s that it was removed", p.from.place)
			p.from.recv.Expelled()
		}
		return
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(p.data, m); err != nil {
		panic(err)
	}
	_ = to.recv.Step(ctx, m) // refused by a member that stops
}

// way gives the other end, if anything gets there now. As with the real network a member is reached if its URLs are known,
// or if it knows those of who wants to reach it: then it opens the connection itself.
func (n *network) way(from *endpoint, id uint64) *endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.ends[id]
	if to == nil || n.cut[link{from.place, to.place}] || to.clusterID != from.clusterID {
		return nil
	}
	called := slices.Contains(to.peers[from.id], from.url)
	urls, known := from.peers[id]
	if !known && (!called || from.recv.Removed(id)) || !called && !slices.Contains(urls, to.url) {
		return nil
	}
	return to
}

// doors are the members that a member reaches by the addresses that it knows of another one: that one, or whoever listens there
// now. Whoever it is says first of all whether the caller was removed.
func (n *network) doors(from *endpoint, id uint64) (all []*endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, at := range slices.Sorted(maps.Keys(n.ends)) {
		to := n.ends[at]
		if to != from && to.clusterID == from.clusterID && slices.Contains(from.peers[id], to.url) && !n.cut[link{from.place, to.place}] {
			all = append(all, to)
		}
	}
	return all
}

// answers tells whether the answer to what was sent gets back to the sender, where it says that the sender was removed.
func (n *network) answers(to, sender *endpoint) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.planted.mute && n.ends[sender.id] == sender && !n.cut[link{to.place, sender.place}]
}

// draw gives the generator for what happens next on the way from one member to another.
func (n *network) draw(l link, what string) *rand.Rand {
	return n.lots.draw(l.from + l.to + what)
}

// post puts a message on its way. It is false if it is lost at once.
func (n *network) post(from *endpoint, m *raftpb.Message) bool {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	to := n.way(from, m.GetTo())
	if to == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := link{from.place, to.place}
	r := n.draw(l, m.GetType().String())
	if r.Float64() < n.weather.loss {
		return false
	}
	p := packet{from: from, to: m.GetTo(), data: data}
	n.enqueue(l, streamOf(m), p, r)
	if mayRepeat(m) && r.Float64() < n.weather.twice || n.planted.again != nil && n.planted.again(m) {
		n.enqueue(l, streamOther, p, r)
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return true
}

func (n *network) enqueue(l link, stream int, p packet, r *rand.Rand) {
	p.due = time.Now().Add(between(r, n.weather.delayMin, n.weather.delayMax))
	last := n.last[l]
	if p.due.Before(last[stream]) {
		p.due = last[stream]
	}
	last[stream] = p.due
	n.last[l] = last
	n.sent++
	p.order = n.sent
	heap.Push(&n.queue, p)
}

func streamOf(m *raftpb.Message) int {
	if m.GetType() == raftpb.MsgApp {
		return streamAppend
	}
	return streamOther
}

// mayRepeat tells whether raft permits that a message arrives twice. A proposal would be another proposal.
func mayRepeat(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp,
		raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp:
		return true
	}
	return false
}

// partition cuts the links between places for which apart says so; nil heals all.
func (n *network) partition(places []string, apart func(from, to string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	if apart == nil {
		return
	}
	for _, from := range places {
		for _, to := range places {
			if from != to && apart(from, to) {
				n.cut[link{from, to}] = true
			}
		}
	}
}

// deathMax is how long it takes until a connection's end is noticed and every address refuses another.
const deathMax = 30 * time.Millisecond

// died lets the others find out that a process is gone: its machine refuses connections. Where a machine lost power, or
// the way is cut, nobody refuses anything.
func (n *network) died(gone *endpoint) {
	n.mu.Lock()
	var others []*endpoint
	for _, e := range n.ends {
		if e.peers[gone.id] != nil {
			others = append(others, e)
		}
	}
	n.mu.Unlock()
	for _, e := range others {
		n.deaths.Go(func() {
			time.Sleep(between(n.draw(link{e.place, gone.place}, "death"), time.Millisecond, deathMax))
			n.mu.Lock()
			dead := n.ends[gone.id] == nil && n.ends[e.id] == e && !n.cut[link{e.place, gone.place}] && !n.cut[link{gone.place, e.place}]
			n.mu.Unlock()
			if dead {
				e.recv.PeerDead(gone.id)
			}
		})
	}
}

func (n *network) setWeather(w weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = w
}

// endpoint is one life's connection to the network.
type endpoint struct {
	net           *network
	id, clusterID uint64
	place, url    string
	recv          server.Receiver
	ctx           context.Context
	cancel        context.CancelFunc
	transfers     sync.WaitGroup
	// wiped tells that the member's disk was lost: it must not vote.
	wiped bool
	// peers are the members that it talks to, with their URLs; guarded by net.mu.
	peers map[uint64][]string
}

var _ server.Network = (*endpoint)(nil)

// plug makes the connection of a life at a place, where it listens at url. It is up once open is called.
func (n *network) plug(p server.NetworkParams, place, url string) *endpoint {
	e := &endpoint{net: n, id: p.ID, clusterID: p.ClusterID, place: place, url: url, recv: p.Receiver, peers: map[uint64][]string{}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

func (e *endpoint) open() {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.net.ends[e.id] = e
	e.transfers.Go(e.knock)
}

// knockInterval is how often a member tries the others' doors. The real one does so ten times a second while a door is
// shut; it is how one that has nothing to say learns that it was removed.
const knockInterval = 500 * time.Millisecond

func (e *endpoint) knock() {
	tick := time.NewTicker(knockInterval)
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-tick.C:
		}
		for _, id := range e.known() {
			for _, to := range e.net.doors(e, id) {
				if to.recv.Removed(e.id) && e.net.answers(to, e) {
					e.net.journal.add(to.place, "tells %s at its door that it was removed", e.place)
					e.recv.Expelled()
				}
			}
		}
	}
}

// forlorn tells whether a member knows nobody by an address where somebody listens.
func (e *endpoint) forlorn() bool {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	for _, urls := range e.peers {
		for _, to := range e.net.ends {
			if to != e && to.clusterID == e.clusterID && slices.Contains(urls, to.url) {
				return false
			}
		}
	}
	return true
}

func (e *endpoint) known() []uint64 {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	return slices.Sorted(maps.Keys(e.peers))
}

func (e *endpoint) up() bool { return e.ctx.Err() == nil }

// close cuts the life off: nothing that it sends from now on gets anywhere.
func (e *endpoint) close() {
	e.cancel()
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.net.ends[e.id] == e {
		delete(e.net.ends, e.id)
	}
}

// Send implements server.Network.
func (e *endpoint) Send(msgs []*raftpb.Message) {
	for _, m := range msgs {
		if e.wiped && m.GetType() == raftpb.MsgVoteResp && !m.GetReject() {
			e.net.votes(e, m)
		}
		switch {
		case !e.up():
			if m.GetType() == raftpb.MsgSnap {
				e.recv.ReportSnapshot(m.GetTo(), false)
			}
		case m.GetType() == raftpb.MsgSnap:
			m := proto.Clone(m).(*raftpb.Message)
			e.transfers.Go(func() {
				ok := e.transfer(m)
				e.net.journal.add(e.place, "snapshot %d to %x: %v", m.GetSnapshot().GetMetadata().GetIndex(), m.GetTo(), ok)
				e.recv.ReportSnapshot(m.GetTo(), ok)
			})
		default:
			if !e.net.post(e, m) {
				e.recv.ReportUnreachable(m.GetTo())
			}
		}
	}
}

// transfer carries a snapshot message and its file.
func (e *endpoint) transfer(m *raftpb.Message) bool {
	db, size, err := e.recv.OpenSnapshot(m)
	if err != nil {
		return false
	}
	defer db.Close()
	stop := context.AfterFunc(e.ctx, func() { db.Close() })
	defer stop()
	r := e.net.lots.draw(fmt.Sprintf("snapshot %s %x", e.place, m.GetTo()))
	time.Sleep(between(r, time.Millisecond, 100*time.Millisecond))
	to := e.net.way(e, m.GetTo())
	if to == nil || to.recv.Removed(e.id) {
		return false
	}
	var file io.Reader = db
	if r.Float64() < 0.1 {
		file = io.MultiReader(io.LimitReader(db, size/2), broken{})
	}
	return to.recv.ReceiveSnapshot(to.ctx, m, file) == nil && e.net.way(to, e.id) == e
}

// broken is where a connection ends.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// AddPeer implements server.Network.
func (e *endpoint) AddPeer(id uint64, urls []string) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if _, ok := e.peers[id]; !ok {
		e.peers[id] = urls
	}
}

// UpdatePeer implements server.Network.
func (e *endpoint) UpdatePeer(id uint64, urls []string) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.peers[id] = urls
}

// RemovePeer implements server.Network.
func (e *endpoint) RemovePeer(id uint64) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	delete(e.peers, id)
}

// ActiveSince implements server.Network.
func (e *endpoint) ActiveSince(id uint64) time.Time {
	if to := e.net.way(e, id); e.up() && to != nil && e.net.way(to, e.id) == e {
		return e.net.begun
	}
	return time.Time{}
}

// Stop implements server.Network.
func (e *endpoint) Stop() {
	e.close()
	e.transfers.Wait()
}
