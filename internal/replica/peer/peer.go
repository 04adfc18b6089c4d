package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

const (
	// posters is how many goroutines post to one member while its streams are down: etcd's 4, so that one that waits for
	// an answer does not hold the others up.
	posters = 4
	// postQueueMax bounds the messages that wait for a poster: 64 of at most 1 MiB each. Raft sends one MsgApp at a time
	// to a member that does not answer.
	postQueueMax = 64
	// postTime bounds one POST: twice what a stream may be silent.
	postTime = 10 * time.Second
	// answerBytesMax bounds the body of an answer to a POST: a line of text.
	answerBytesMax = 64 << 10
	// probeInterval keeps the connection for POSTs open: a stock member ends it after 5 s of silence.
	probeInterval = 4 * time.Second
	// farewellTime is how long a removed member is still written to: the commit of its removal is on the stream, and from
	// it the member learns why it must stop.
	farewellTime = 500 * time.Millisecond
	// refusalTime bounds the question whether all addresses refuse. A machine that is there refuses at once.
	refusalTime = time.Second
)

// Paths of the peer port, and what a member answers on them.
const (
	raftPath     = "/raft"
	streamPath   = "/raft/stream/"
	snapshotPath = "/raft/snapshot"
	probingPath  = "/raft/probing"

	textIncompatible = "incompatible version"
	textMismatch     = "cluster ID mismatch"
	textRemoved      = "cannot process message from removed member"
	textNotForMe     = "cannot process message to mismatch member"
)

var (
	// errIncompatible is returned when two members' versions are too far apart.
	errIncompatible = errors.New("peer: " + textIncompatible)
	// errClusterMismatch is returned when a member belongs to another cluster.
	errClusterMismatch = errors.New("peer: " + textMismatch)
	// errExpelled is returned when a member knows this one as removed.
	errExpelled = errors.New("peer: this member was removed from the cluster")
	// errUnknownThere is returned when a member does not know this one yet.
	errUnknownThere = errors.New("peer: the member does not know this one")
)

// peer is the way to one member: two streams that it opened and this member writes, two that this member opened and
// reads, and POSTs.
type peer struct {
	t      *Transport
	id     uint64
	name   string // the ID in text
	urls   urls
	status status
	// writers by kind of stream; readers have no state but these channels, which cut their waiting short.
	writers [kinds]*writer
	redial  [kinds]chan struct{}
	posts   chan *raftpb.Message
	// sending is set while a snapshot is on its way: raft sends one at a time.
	sending atomic.Bool
	suspect suspicion
	ctx     context.Context
	cancel  context.CancelFunc
}

// kind is one of the two streams.
type kind int

const (
	message kind = iota
	msgapp
	kinds
)

func (k kind) String() string { return [kinds]string{"message", "msgapp"}[k] }

// newCodec gives the codec of one direction of a stream between this member and the peer.
func (p *peer) newCodec(k kind) codec {
	if k == msgapp {
		return &appendCodec{local: p.t.ID, remote: p.id}
	}
	return messageCodec{}
}

func newPeer(t *Transport, id uint64, peerURLs []string) *peer {
	p := &peer{
		t: t, id: id, name: hexID(id), urls: urls{all: peerURLs}, posts: make(chan *raftpb.Message, postQueueMax),
		status: status{clock: t.o.Clock, log: t.o.Logger.With(zap.String("remote-peer-id", hexID(id))), lost: func() { t.o.Observe.Lost(t.ID, id) }},
	}
	p.ctx, p.cancel = context.WithCancel(t.ctx)
	for k := range kinds {
		p.writers[k] = newWriter(p, k)
		p.redial[k] = make(chan struct{}, 1)
	}
	return p
}

// startStreams begins what a member of the cluster has beside posts.
func (p *peer) startStreams() {
	for k := range kinds {
		p.t.running.Go(p.writers[k].run)
		p.t.running.Go(func() { p.read(k) })
	}
	if p.t.o.Observe.RoundTrip != nil {
		p.t.running.Go(p.probe)
	}
}

// startPosting begins the goroutines that every peer has. All end with ctx and are joined by the Transport.
func (p *peer) startPosting() {
	for range posters {
		p.t.running.Go(p.post)
	}
}

// retire ends the goroutines of a removed peer after its farewell.
func (p *peer) retire() {
	t := p.t.o.Clock.NewTimer(farewellTime)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	}
	p.cancel()
}

// send puts a message on the way that is up and fits best.
func (p *peer) send(m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgSnap:
		p.sendSnapshot(m)
		return
	case raftpb.MsgApp:
		if p.queue(p.writers[msgapp], m) {
			return
		}
	}
	if p.queue(p.writers[message], m) {
		return
	}
	select {
	case p.posts <- m:
	default:
		p.dropped(1)
	}
}

// queue tells whether a stream took the message, be it to drop it.
func (p *peer) queue(w *writer, m *raftpb.Message) bool {
	switch w.box.put(m) {
	case boxShut:
		return false
	case boxFull:
		p.dropped(1)
	}
	return true
}

// dropped reports messages that were lost on this side.
func (p *peer) dropped(n int) {
	if n == 0 {
		return
	}
	for range n {
		p.t.o.Observe.SendFailed(p.id)
	}
	p.t.Receiver.ReportUnreachable(p.id)
}

// post sends what the streams could not take.
func (p *peer) post() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case m := <-p.posts:
			b, err := proto.Marshal(m)
			if err == nil {
				err = p.postOne(b)
			}
			if err == nil {
				p.status.up()
				p.t.o.Observe.Sent(p.id, len(b))
				continue
			}
			if p.ctx.Err() != nil {
				return
			}
			p.status.down(err)
			p.dropped(1)
		}
	}
}

func (p *peer) postOne(b []byte) error {
	ctx, cancel := context.WithTimeout(p.ctx, postTime)
	defer cancel()
	return p.deliver(ctx, raftPath, "application/protobuf", bytes.NewReader(b), int64(len(b)))
}

// deliver posts a body and tells whether the member took it.
func (p *peer) deliver(ctx context.Context, path, contentType string, body io.Reader, size int64) error {
	base := p.urls.pick()
	r, err := p.request(ctx, http.MethodPost, base, path, body)
	if err == nil {
		r.Header.Set("Content-Type", contentType)
		r.ContentLength = size
		err = p.roundTrip(r)
	}
	if err != nil && ctx.Err() == nil {
		p.urls.failed(base)
	}
	return err
}

func (p *peer) roundTrip(r *http.Request) error {
	resp, err := p.t.lines.posts.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err != nil {
		return fmt.Errorf("peer: read an answer: %w", err)
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	return p.explain(resp, string(text))
}

// explain turns a refusal into an error.
func (p *peer) explain(resp *http.Response, text string) error {
	text = strings.TrimSpace(text)
	switch {
	case resp.StatusCode == http.StatusGone, resp.StatusCode == http.StatusForbidden && strings.Contains(text, textRemoved):
		p.t.Receiver.Expelled()
		return errExpelled
	case resp.StatusCode == http.StatusPreconditionFailed && text == textIncompatible:
		return errIncompatible
	case resp.StatusCode == http.StatusPreconditionFailed && text == textMismatch:
		return fmt.Errorf("%w: theirs is %q, ours %s", errClusterMismatch, resp.Header.Get("X-Etcd-Cluster-ID"), hexID(p.t.ClusterID))
	}
	return fmt.Errorf("peer: answered %s: %q", resp.Status, text)
}

// request makes a request with the headers that members know each other by.
func (p *peer) request(ctx context.Context, method, base, path string, body io.Reader) (*http.Request, error) {
	u, err := at(base, path)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("peer: make a request: %w", err)
	}
	h := r.Header
	h.Set("X-Server-From", hexID(p.t.ID))
	h.Set("X-Server-Version", version.Version)
	h.Set("X-Min-Cluster-Version", version.MinClusterVersion)
	h.Set("X-Etcd-Cluster-ID", hexID(p.t.ClusterID))
	if len(p.t.o.PeerURLs) > 0 {
		h.Set("X-PeerURLs", strings.Join(p.t.o.PeerURLs, ","))
	}
	return r, nil
}

// probe measures how far away the member is.
func (p *peer) probe() {
	tick := p.t.o.Clock.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(p.ctx, probeInterval)
		began := p.t.o.Clock.Now()
		r, err := p.request(ctx, http.MethodGet, p.urls.pick(), probingPath, nil)
		if err == nil {
			var resp *http.Response
			if resp, err = p.t.lines.posts.RoundTrip(r); err == nil {
				_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, answerBytesMax))
				_ = resp.Body.Close()
			}
		}
		cancel()
		if err == nil {
			p.t.o.Observe.RoundTrip(p.id, p.t.o.Clock.Now().Sub(began))
		}
	}
}

// suspicion finds out that a member's process is gone. A loss is told once.
type suspicion struct {
	mu   sync.Mutex // guards the rest
	lost bool       // a stream was cut by the other side, and none has come up since
	told bool
}

func (s *suspicion) connected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost, s.told = false, false
}

// cutOff notes that a stream ended, as it does when the other process ends.
func (s *suspicion) cutOff(err error) {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
}

// ask tells whether to report the member dead now. refuses is asked at most once at a time.
func (s *suspicion) ask(refuses func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lost || s.told || !refuses() {
		return false
	}
	s.told = true
	return true
}
