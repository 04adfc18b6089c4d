package raftloop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/storage/wal"
)

// memWAL keeps the log in memory. What was appended is durable after a Sync; durable entries and state
// survive a crash.
type memWAL struct {
	mu       sync.Mutex
	ents     []*raftpb.Entry // from first on
	first    uint64
	state    *raftpb.HardState
	mark     wal.Mark
	durable  uint64 // last synced entry
	term     uint64 // synced
	vote     uint64
	syncs    int
	released uint64
	fail     error
	hang     chan struct{} // Sync waits for it
}

func (w *memWAL) Append(b wal.Batch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	if b.Mark != nil {
		if b.Mark.Index > w.last() {
			w.ents, w.first = nil, b.Mark.Index+1
		}
		w.mark = *b.Mark
	}
	if len(b.Entries) > 0 {
		i := b.Entries[0].GetIndex() - w.first
		w.durable = min(w.durable, b.Entries[0].GetIndex()-1)
		w.ents = append(w.ents[:i:i], b.Entries...)
	}
	if b.State != nil {
		w.state = b.State
		if b.State.GetCommit() > w.last() {
			panic("commit past the log")
		}
	}
	return nil
}

func (w *memWAL) last() uint64 { return w.first + uint64(len(w.ents)) - 1 }

func (w *memWAL) Sync() error {
	w.mu.Lock()
	hang := w.hang
	last, st := w.last(), w.state
	w.mu.Unlock()
	if hang != nil {
		<-hang
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.durable, w.term, w.vote = last, st.GetTerm(), st.GetVote()
	w.syncs++
	return w.fail
}

func (w *memWAL) ReadEntries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return nil, w.fail
	}
	if lo < w.first || lo <= w.released {
		return nil, errors.New("released")
	}
	return slices.Clone(w.ents[lo-w.first : min(hi-w.first, lo-w.first+10)]), nil
}

func (w *memWAL) Release(index uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released = index
	return nil
}

// covers tells whether m, a promise to a peer, rests on synced state only.
func (w *memWAL) covers(m *raftpb.Message) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m.GetType() {
	case raftpb.MsgAppResp:
		return m.GetReject() || m.GetIndex() <= max(w.durable, w.mark.Index) && w.term >= m.GetTerm()
	case raftpb.MsgVoteResp:
		return m.GetReject() || w.term > m.GetTerm() || w.term == m.GetTerm() && w.vote == m.GetTo()
	}
	return true
}

// machine records what it applies.
type machine struct {
	mu    sync.Mutex
	data  []string
	index uint64
	term  uint64
	conf  *raftpb.ConfState
	gate  chan struct{} // Apply waits for it
	wal   *memWAL       // if set, Apply checks that entries are durable
}

func (m *machine) Apply(ents []*raftpb.Entry, change func(*raftpb.ConfChange) *raftpb.ConfState) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if m.wal != nil {
		m.wal.mu.Lock()
		durable := m.wal.durable
		m.wal.mu.Unlock()
		if last := ents[len(ents)-1].GetIndex(); last > durable {
			return fmt.Errorf("entry %d applied, synced up to %d", last, durable)
		}
	}
	for _, e := range ents {
		var cs *raftpb.ConfState
		if e.GetType() == raftpb.EntryConfChange {
			cc := &raftpb.ConfChange{}
			if err := proto.Unmarshal(e.GetData(), cc); err != nil {
				return err
			}
			cs = change(cc)
		}
		m.mu.Lock()
		if m.index != 0 && e.GetIndex() != m.index+1 {
			m.mu.Unlock()
			return fmt.Errorf("entry %d applied after %d", e.GetIndex(), m.index)
		}
		m.index, m.term = e.GetIndex(), e.GetTerm()
		if cs != nil {
			m.conf = cs
		} else if len(e.GetData()) > 0 {
			m.data = append(m.data, string(e.GetData()))
		}
		m.mu.Unlock()
	}
	return nil
}

// Install copies the state of whichever peer made the snapshot: the file travels beside the message.
func (m *machine) Install(s *raftpb.Snapshot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = nil
	for part := range bytesParts(s.GetData()) {
		m.data = append(m.data, part)
	}
	m.index, m.term, m.conf = s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm(), s.GetMetadata().GetConfState()
	return nil
}

func bytesParts(b []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		start := 0
		for i, c := range b {
			if c == '\n' {
				if !yield(string(b[start:i])) {
					return
				}
				start = i + 1
			}
		}
	}
}

func (m *machine) Snapshot() (*raftpb.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var data []byte
	for _, d := range m.data {
		data = append(append(data, d...), '\n')
	}
	return &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		Index: new(m.index), Term: new(m.term), ConfState: m.conf,
	}}, nil
}

func (m *machine) applied() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.data)
}

// node is one member of a test cluster, over its lives.
type node struct {
	c       *cluster
	id      uint64
	wal     *memWAL
	machine *machine
	loop    *Loop
	failed  chan error
	inbound chan *raftpb.Message
}

// cluster is some members on one network without delay, inside a synctest bubble.
type cluster struct {
	t     *testing.T
	nodes map[uint64]*node
	mu    sync.Mutex
	drop  func(from, to uint64, m *raftpb.Message) bool
	seen  []*raftpb.Message // all that was sent, dropped or not
	next  uint64
	tune  func(*Options)
}

const testTick = 100 * time.Millisecond

func newCluster(t *testing.T, n int, tune func(*Options)) *cluster {
	c := &cluster{t: t, nodes: map[uint64]*node{}, tune: tune}
	cs := &raftpb.ConfState{}
	for id := range uint64(n) {
		cs.Voters = append(cs.Voters, id+1)
	}
	for id := range uint64(n) {
		c.add(id+1, cs)
	}
	return c
}

// add starts a member whose state at index 1 has the configuration cs.
func (c *cluster) add(id uint64, cs *raftpb.ConfState) *node {
	nd := &node{c: c, id: id, wal: &memWAL{first: 2, mark: wal.Mark{Index: 1, Term: 1, ConfState: cs}}}
	nd.wal.state = &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))}
	nd.wal.durable = 1
	nd.machine = &machine{index: 1, term: 1, conf: cs, wal: nd.wal}
	nd.failed = make(chan error, 1)
	c.mu.Lock()
	c.nodes[id] = nd
	c.mu.Unlock()
	nd.start()
	return nd
}

func (nd *node) start() {
	log, err := NewLog(nd.wal.state, nd.machine.conf, nd.wal.mark, slices.Clone(nd.wal.ents[nd.wal.mark.Index+1-nd.wal.first:]), nd.machine.index)
	if err != nil {
		nd.c.t.Fatal(err)
	}
	o := Options{
		ID: nd.id, ElectionTicks: 10, Tick: testTick, PreVote: true, Clock: clock.System,
		NextID: func() uint64 { nd.c.mu.Lock(); defer nd.c.mu.Unlock(); nd.c.next++; return nd.c.next },
		OnFail: func(err error) { nd.failed <- err },
	}
	if nd.c.tune != nil {
		nd.c.tune(&o)
	}
	nd.c.mu.Lock()
	nd.inbound = make(chan *raftpb.Message, 10000)
	nd.c.mu.Unlock()
	nd.loop = New(o, log, nd.wal, nd, nd.machine)
	nd.loop.Start()
	go func(l *Loop, in chan *raftpb.Message) {
		for {
			select {
			case m := <-in:
				_ = l.Step(context.Background(), m)
			case <-l.Done():
				return
			}
		}
	}(nd.loop, nd.inbound)
}

// Send is the transport of a member.
func (nd *node) Send(ms []*raftpb.Message) {
	c := nd.c
	for _, m := range ms {
		c.mu.Lock()
		m = proto.Clone(m).(*raftpb.Message)
		c.seen = append(c.seen, m)
		dropped := c.drop != nil && c.drop(nd.id, m.GetTo(), m)
		var inbound chan *raftpb.Message // nil, and never ready, for a member that isn't there
		if to := c.nodes[m.GetTo()]; to != nil {
			inbound = to.inbound
		}
		c.mu.Unlock()
		if m.GetFrom() == nd.id && !nd.wal.covers(m) {
			c.t.Errorf("member %d sent before its sync: %v", nd.id, m)
		}
		if m.GetType() == raftpb.MsgSnap {
			nd.loop.ReportSnapshot(m.GetTo(), !dropped)
		}
		if !dropped {
			select {
			case inbound <- m:
			default:
			}
		}
	}
}

// filter sets what the network drops.
func (c *cluster) filter(f func(from, to uint64, m *raftpb.Message) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop = f
}

// isolate cuts member id off.
func (c *cluster) isolate(id uint64) {
	c.filter(func(from, to uint64, _ *raftpb.Message) bool { return from == id || to == id })
}

func (c *cluster) stop() {
	for _, nd := range c.nodes {
		nd.loop.Stop()
		if len(nd.failed) > 0 {
			c.t.Errorf("member %d failed: %v", nd.id, <-nd.failed)
		}
	}
}

// restart ends a member's life, what it had not synced being lost, and begins another.
func (nd *node) restart() {
	nd.loop.Stop()
	w := nd.wal
	keep := max(w.durable, w.mark.Index)
	if keep+1 < w.first+uint64(len(w.ents)) {
		w.ents = w.ents[:keep+1-w.first]
	}
	w.state = &raftpb.HardState{Term: new(w.term), Vote: new(w.vote), Commit: new(min(w.state.GetCommit(), keep))}
	nd.start()
}

// elect makes member id lead.
func (c *cluster) elect(id uint64) *Loop {
	c.t.Helper()
	l := c.nodes[id].loop
	for range 50 {
		if l.Status().Role == raft.StateLeader {
			break
		}
		l.Campaign()
		time.Sleep(time.Second / 5)
	}
	c.until("leader known", func() bool {
		for _, nd := range c.nodes {
			if nd.loop.Status().Lead == 0 {
				return false
			}
		}
		return true
	})
	return l
}

// until waits, on the bubble's clock, for a condition.
func (c *cluster) until(what string, f func() bool) {
	c.t.Helper()
	for range 1000 {
		synctest.Wait()
		if f() {
			return
		}
		time.Sleep(testTick / 4)
	}
	c.t.Fatalf("never: %s", what)
}

// has waits until member id has applied want, in this order.
func (c *cluster) has(id uint64, want ...string) {
	c.t.Helper()
	var got []string
	for range 400 {
		synctest.Wait()
		if got = c.nodes[id].machine.applied(); slices.Equal(got, want) {
			return
		}
		time.Sleep(testTick / 4)
	}
	c.t.Fatalf("member %d applied %q, want %q", id, got, want)
}

func (c *cluster) propose(id uint64, data ...string) {
	c.t.Helper()
	for _, d := range data {
		if err := c.nodes[id].loop.Propose(context.Background(), []byte(d)); err != nil {
			c.t.Fatal(err)
		}
	}
}
