// Package peer carries messages between members as etcd's own peer port does, so that members of both kinds form one
// cluster. Package server gives it raft's messages to send and a Receiver for what arrives; it knows entries and
// bytes, never keys.
//
// Everything is HTTP/1.1 on the peer port:
//
//	GET  /raft/stream/message/<from>  a stream that the receiver of messages opens and the sender writes:
//	                                  8 bytes of length and a raftpb.Message, repeated
//	GET  /raft/stream/msgapp/<from>   the same for MsgApp alone, in a shorter form: see appendCodec
//	POST /raft                        one raftpb.Message: the way while a stream is not up
//	POST /raft/snapshot               8 bytes of length, a MsgSnap, then the db file
//	GET  /raft/probing                is somebody there, and how far away
//	/members /leases /downgrade/…     questions that are not raft's: see port.go and Caller
//
// Lengths and counts are big-endian, IDs in headers and paths hexadecimal. Invariants:
//   - Messages of one stream arrive in the order of Send, or the stream ends.
//   - Send never waits: each way has a queue that is bounded in bytes, and what does not fit is dropped and reported.
//   - Every MsgSnap is reported exactly once.
//   - Nothing that is between a member's own threads leaves it.
package peer

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/logging"
)

// Member is a member as another one describes it at /members.
type Member struct {
	ID         uint64
	Name       string
	PeerURLs   []string
	ClientURLs []string
	IsLearner  bool
}

// Receiver takes what a Transport receives. Its methods may be called from any goroutine, and not from within a call
// of the Transport's own methods.
type Receiver interface {
	// Step hands a message to raft. It may block while raft is busy.
	Step(ctx context.Context, m *raftpb.Message) error
	// ReceiveSnapshot takes the db file of a MsgSnap, then hands the message to raft.
	ReceiveSnapshot(ctx context.Context, m *raftpb.Message, db io.Reader) error
	// OpenSnapshot gives the db file for an outgoing MsgSnap and its size. The caller closes it.
	OpenSnapshot(m *raftpb.Message) (io.ReadCloser, int64, error)
	ReportUnreachable(id uint64)
	ReportSnapshot(id uint64, ok bool)
	// Removed tells whether a member was removed for good.
	Removed(id uint64) bool
	// PeerDead tells that a member's process seems gone: its connection ended and each of its addresses refuses
	// another. It is told once a loss.
	PeerDead(id uint64)
	// Expelled tells that another member knows this one as removed for good.
	Expelled()
}

// Params is what a Transport is made for.
type Params struct {
	ID, ClusterID uint64
	Receiver      Receiver
}

// Options are the same for the life of a process. Clock is required.
type Options struct {
	// PeerURLs are this member's own, told to members that do not know it yet.
	PeerURLs []string
	// DialTimeout bounds the opening of a connection (0: 2 s). ReadTimeout is how long a peer may be silent in the
	// middle of a stream or a body, and WriteTimeout how long it may take nothing (0: 5 s each).
	DialTimeout, ReadTimeout, WriteTimeout time.Duration
	// Dial opens a connection; nil: the machine's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS gives what is used for https URLs now, and a number that is another one once it has changed; nil: Go's own.
	TLS     func() (*tls.Config, uint64)
	Clock   clock.Clock
	Logger  *zap.Logger
	Observe Observer
}

// Observer is told what crosses the network. Nil fields are not called.
type Observer struct {
	// Sent and Received count bytes of messages and snapshots.
	Sent, Received func(peer uint64, bytes int)
	// SendFailed and ReceiveFailed count messages or connections that were lost.
	SendFailed, ReceiveFailed func(peer uint64)
	// RoundTrip measures a probe.
	RoundTrip func(peer uint64, d time.Duration)
	// Lost is called when a member that was reached is so no more.
	Lost func(local, peer uint64)
	// SendingSnapshot and ReceivingSnapshot are called when a snapshot sets out or begins to come; what they give is called
	// at its end.
	SendingSnapshot, ReceivingSnapshot func(peer uint64) (ended func(ok bool))
}

const (
	// dialTimeoutDefault is etcd's with its default election time-out: 1 s and one such.
	dialTimeoutDefault = 2 * time.Second
	// silenceDefault is how long etcd lets a stream be silent, or a write wait.
	silenceDefault = 5 * time.Second
	// learnedMax bounds the members that are known from their own requests alone. A cluster grows by one member at a
	// time; 16 leaves room for those that come while this member catches up.
	learnedMax = 16
)

func (o Options) withDefaults() Options {
	if o.DialTimeout == 0 {
		o.DialTimeout = dialTimeoutDefault
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = silenceDefault
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = silenceDefault
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.TLS == nil {
		o.TLS = func() (*tls.Config, uint64) { return nil, 0 }
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	nothing, nobody := func(uint64, int) {}, func(uint64) {}
	w := &o.Observe
	if w.Sent == nil {
		w.Sent = nothing
	}
	if w.Received == nil {
		w.Received = nothing
	}
	if w.SendFailed == nil {
		w.SendFailed = nobody
	}
	if w.ReceiveFailed == nil {
		w.ReceiveFailed = nobody
	}
	if w.Lost == nil {
		w.Lost = func(uint64, uint64) {}
	}
	unseen := func(uint64) func(bool) { return func(bool) {} }
	if w.SendingSnapshot == nil {
		w.SendingSnapshot = unseen
	}
	if w.ReceivingSnapshot == nil {
		w.ReceivingSnapshot = unseen
	}
	return o
}

// Transport is one member's connection to the others. It owns a few goroutines a peer; Stop joins them. All methods
// may be called from any goroutine.
type Transport struct {
	Params
	o     Options
	lines lines
	// room bounds what posted messages hold, refusals what is logged of those that are refused.
	room     *semaphore.Weighted
	refusals *refusals
	ctx      context.Context // ends with Stop
	cancel   context.CancelFunc
	// running counts the goroutines of all peers, past ones too.
	running sync.WaitGroup

	mu sync.RWMutex // guards the rest
	// peers are the members of the cluster. learned are those that sent something and are no members yet, as far as
	// this member has applied: they get answers by POST, never a stream.
	peers, learned map[uint64]*peer
	stopped        bool
}

// New makes a Transport without peers. It hands nothing to the Receiver before AddPeer or a request to its Handler.
func New(p Params, o Options) *Transport {
	o = o.withDefaults()
	t := &Transport{
		Params: p, o: o, lines: newLines(o), peers: map[uint64]*peer{}, learned: map[uint64]*peer{},
		room: semaphore.NewWeighted(intakeBytesMax), refusals: &refusals{o.Logger, logging.NewSeldom(o.Clock)},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// Send passes messages on without waiting, in order. What it drops it reports.
func (t *Transport) Send(ms []*raftpb.Message) {
	for _, m := range ms {
		to := m.GetTo()
		if to == raft.None || raft.IsLocalMsgTarget(to) || raft.IsLocalMsgTarget(m.GetFrom()) || raft.IsLocalMsg(m.GetType()) ||
			len(m.GetResponses()) > 0 {
			continue
		}
		t.mu.RLock()
		p := t.peers[to]
		if p == nil {
			p = t.learned[to]
		}
		t.mu.RUnlock()
		switch {
		case p != nil:
			p.send(m)
		case m.GetType() == raftpb.MsgSnap:
			// Raft would wait for ever. It may be inside of Send, so the report waits for nobody.
			t.Receiver.ReportSnapshot(to, false)
		}
	}
}

// AddPeer begins to talk to a member. One that is there stays as it is.
func (t *Transport) AddPeer(id uint64, peerURLs []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || id == t.ID || t.peers[id] != nil {
		return
	}
	p := t.learned[id]
	if p != nil {
		// What waits for it, a forwarded proposal maybe, goes on.
		delete(t.learned, id)
		p.urls.set(peerURLs)
	} else {
		p = newPeer(t, id, peerURLs)
		p.startPosting()
	}
	t.peers[id] = p
	p.startStreams()
	t.o.Logger.Info("added remote peer", zap.String("remote-peer-id", hexID(id)), zap.Strings("remote-peer-urls", peerURLs))
}

// UpdatePeer changes the addresses of a member that is there.
func (t *Transport) UpdatePeer(id uint64, peerURLs []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil && p.urls.set(peerURLs) {
		p.seen() // whoever waits to try the old addresses again tries the new ones
		t.o.Logger.Info("updated remote peer", zap.String("remote-peer-id", hexID(id)), zap.Strings("remote-peer-urls", peerURLs))
	}
}

// RemovePeer stops to talk to a member. What is on its way to it, the word of its removal maybe, still goes out.
func (t *Transport) RemovePeer(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil {
		delete(t.peers, id)
		if t.stopped {
			p.cancel()
		} else {
			t.running.Go(p.retire)
		}
		t.o.Logger.Info("removed remote peer", zap.String("remote-peer-id", hexID(id)))
	}
}

// ActiveSince tells since when the connection to a peer is up; zero: it is down.
func (t *Transport) ActiveSince(id uint64) time.Time {
	if p := t.peer(id); p != nil {
		return p.status.activeSince()
	}
	return time.Time{}
}

func (t *Transport) peer(id uint64) *peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.peers[id]
}

// counted gives the ID under which a sender's traffic is counted: 0 for one that is not known here. Whoever reaches the port
// could make a metric of any other number else, and of as many as they like.
func (t *Transport) counted(id uint64) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.peers[id] == nil && t.learned[id] == nil {
		return 0
	}
	return id
}

// learn takes the addresses of a member that nobody has told of yet, so that it can be answered.
func (t *Transport) learn(id uint64, peerURLs []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || id == t.ID || t.peers[id] != nil || t.learned[id] != nil || len(t.learned) >= learnedMax || !valid(peerURLs) {
		return
	}
	p := newPeer(t, id, peerURLs)
	t.learned[id] = p
	p.startPosting()
	t.o.Logger.Info("added new remote peer", zap.String("remote-peer-id", hexID(id)), zap.Strings("remote-peer-urls", peerURLs))
}

// Stop ends all connections and waits for the goroutines. The Handler answers 503 from then on.
func (t *Transport) Stop() {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.cancel()
	t.running.Wait()
	t.lines.close()
}
