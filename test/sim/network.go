package sim

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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

type link struct{ from, to uint64 }

// network carries raft's messages between the members of one simulation. One goroutine delivers them, in the order of
// the times at which they arrive.
type network struct {
	journal *journal
	lots    *lots
	wake    chan struct{}
	done    chan struct{}
	begun   time.Time
	// again tells for which messages a second copy is made that raft does not permit: a planted fault.
	again func(*raftpb.Message) bool

	mu      sync.Mutex // guards all below
	weather weather
	queue   packets
	sent    uint64
	ends    map[uint64]*endpoint
	cut     map[link]bool
	last    map[link][streams]time.Time
}

type packet struct {
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
		journal: j, lots: s.lots("network"), weather: w, wake: make(chan struct{}, 1), done: make(chan struct{}), begun: time.Now(),
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
	n.mu.Lock()
	end := n.ends[p.to]
	n.mu.Unlock()
	if end == nil {
		return
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(p.data, m); err != nil {
		panic(err)
	}
	if !n.open(m.GetFrom(), p.to) {
		return
	}
	_ = end.recv.Step(ctx, m) // refused by a member that stops
}

// open tells whether anything gets from one member to another now.
func (n *network) open(from, to uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[link{from, to}] && n.ends[to] != nil
}

// draw gives the generator for what happens next on the way from one member to another.
func (n *network) draw(l link, what string) *rand.Rand {
	return n.lots.draw(fmt.Sprintf("%x %x %s", l.from, l.to, what))
}

// post puts a message on its way. It is false if it is lost at once.
func (n *network) post(m *raftpb.Message) bool {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := link{m.GetFrom(), m.GetTo()}
	r := n.draw(l, m.GetType().String())
	if n.cut[l] || n.ends[l.to] == nil || r.Float64() < n.weather.loss {
		return false
	}
	n.enqueue(l, streamOf(m), data, r)
	if mayRepeat(m) && r.Float64() < n.weather.twice || n.again != nil && n.again(m) {
		n.enqueue(l, streamOther, data, r)
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return true
}

func (n *network) enqueue(l link, stream int, data []byte, r *rand.Rand) {
	due := time.Now().Add(between(r, n.weather.delayMin, n.weather.delayMax))
	last := n.last[l]
	if due.Before(last[stream]) {
		due = last[stream]
	}
	last[stream] = due
	n.last[l] = last
	n.sent++
	heap.Push(&n.queue, packet{to: l.to, data: data, due: due, order: n.sent})
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

// partition cuts the links between members for which apart says so; nil heals all.
func (n *network) partition(apart func(from, to uint64) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	if apart == nil {
		return
	}
	for from := range n.ends {
		for to := range n.ends {
			if from != to && apart(from, to) {
				n.cut[link{from, to}] = true
			}
		}
	}
}

func (n *network) setWeather(w weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = w
}

// endpoint is one life's connection to the network.
type endpoint struct {
	net       *network
	id        uint64
	recv      server.Receiver
	ctx       context.Context
	cancel    context.CancelFunc
	transfers sync.WaitGroup
}

var _ server.Network = (*endpoint)(nil)

// plug makes the connection of a life. It is up once open is called.
func (n *network) plug(p server.NetworkParams) *endpoint {
	e := &endpoint{net: n, id: p.ID, recv: p.Receiver}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

func (e *endpoint) open() {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.net.ends[e.id] = e
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
		switch {
		case !e.up():
			if m.GetType() == raftpb.MsgSnap {
				e.recv.ReportSnapshot(m.GetTo(), false)
			}
		case m.GetType() == raftpb.MsgSnap:
			m := proto.Clone(m).(*raftpb.Message)
			e.transfers.Go(func() {
				ok := e.transfer(m)
				e.net.journal.add("net", "snapshot %d from %x to %x: %v", m.GetSnapshot().GetMetadata().GetIndex(), e.id, m.GetTo(), ok)
				e.recv.ReportSnapshot(m.GetTo(), ok)
			})
		default:
			if !e.net.post(m) {
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
	r := e.net.draw(link{e.id, m.GetTo()}, "snapshot")
	time.Sleep(between(r, time.Millisecond, 100*time.Millisecond))
	e.net.mu.Lock()
	to := e.net.ends[m.GetTo()]
	e.net.mu.Unlock()
	if to == nil || !e.net.open(e.id, m.GetTo()) {
		return false
	}
	var file io.Reader = db
	if r.Float64() < 0.1 {
		file = io.MultiReader(io.LimitReader(db, size/2), broken{})
	}
	return to.recv.ReceiveSnapshot(to.ctx, m, file) == nil && e.net.open(m.GetTo(), e.id)
}

// broken is where a connection ends.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// AddPeer, UpdatePeer and RemovePeer implement server.Network: everybody is connected to everybody.
func (e *endpoint) AddPeer(uint64, []string)    {}
func (e *endpoint) UpdatePeer(uint64, []string) {}
func (e *endpoint) RemovePeer(uint64)           {}

// ActiveSince implements server.Network.
func (e *endpoint) ActiveSince(id uint64) time.Time {
	if e.up() && e.net.open(e.id, id) && e.net.open(id, e.id) {
		return e.net.begun
	}
	return time.Time{}
}

// Stop implements server.Network.
func (e *endpoint) Stop() {
	e.close()
	e.transfers.Wait()
}
