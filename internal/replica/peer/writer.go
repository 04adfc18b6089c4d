package peer

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

const (
	// boxBytesMax bounds what waits for one stream: 64 MiB is over half a second of a 1 Gb/s line. Raft would send 512
	// MsgApps of 1 MiB ahead; what does not fit makes it go back and find the follower's place anew.
	boxBytesMax = 64 << 20
	// writeBytes is about how much goes to the connection at once.
	writeBytes = 64 << 10
	// bufferBytesKept is the largest buffer that a stream keeps: a few MsgApps of 1 MiB.
	bufferBytesKept = 4 << 20
	// heartbeatInterval keeps a stream from being silent: a third of what the other side bears by default, as etcd's.
	heartbeatInterval = silenceDefault / 3
)

// box is a stream's queue. It is shut while there is no connection.
type box struct {
	wake chan struct{} // holds a token while there may be something to take

	mu    sync.Mutex // guards the rest
	ms    []*raftpb.Message
	bytes int
	open  bool
}

// errGone is the end of a stream that the other side closed.
var errGone = errors.New("peer: the member closed the stream")

// put's answers.
type boxAnswer int

const (
	boxTaken boxAnswer = iota
	boxFull
	boxShut
)

func (b *box) put(m *raftpb.Message) boxAnswer {
	n := weight(m)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		return boxShut
	case b.bytes > 0 && b.bytes+n > boxBytesMax:
		return boxFull
	}
	b.ms, b.bytes = append(b.ms, m), b.bytes+n
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return boxTaken
}

// take gives all that waits. spare is used for what comes next.
func (b *box) take(spare []*raftpb.Message) []*raftpb.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	ms := b.ms
	b.ms, b.bytes = spare[:0], 0
	return ms
}

// set opens or shuts the box, empties it, and tells how many messages that lost.
func (b *box) set(open bool) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	lost := len(b.ms)
	b.ms, b.bytes, b.open = nil, 0, open
	return lost
}

// outgoing is a connection that the member opened to be written to.
type outgoing struct {
	w       http.ResponseWriter
	control *http.ResponseController
	gone    <-chan struct{} // closed when the other side has gone
	done    chan struct{}   // closed by the writer, which then uses w no more
}

// writer writes one kind of stream to one member. Its goroutine owns the connection.
type writer struct {
	p      *peer
	kind   kind
	box    box
	attach chan *outgoing
	// The rest belongs to run: nil while there is no connection.
	out   *outgoing
	codec codec
	buf   []byte
	ms    []*raftpb.Message
}

func newWriter(p *peer, k kind) *writer {
	return &writer{p: p, kind: k, box: box{wake: make(chan struct{}, 1)}, attach: make(chan *outgoing)}
}

// run writes until the peer is stopped.
func (w *writer) run() {
	tick := w.p.t.o.Clock.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		var gone <-chan struct{}
		if w.out != nil {
			gone = w.out.gone
		}
		select {
		case <-w.p.ctx.Done():
			w.end(nil)
			return
		case o := <-w.attach:
			w.end(nil) // the member has opened another one: the old one is dead or will be
			w.begin(o)
		case <-gone:
			w.end(errGone)
		case <-tick.C:
			if w.out != nil {
				w.write([]*raftpb.Message{linkHeartbeat})
			}
		case <-w.box.wake:
			if w.out != nil {
				w.ms = w.box.take(w.ms)
				w.write(w.ms)
				clear(w.ms)
			}
		}
	}
}

func (w *writer) begin(o *outgoing) {
	w.out, w.codec = o, w.p.newCodec(w.kind)
	w.box.set(true)
	w.p.status.up()
	w.p.status.log.Info("established TCP streaming connection with remote peer",
		zap.String("stream-writer-type", w.kind.String()))
}

// end gives the connection up, if there is one. err is why, nil for no fault of the other side's.
func (w *writer) end(err error) {
	if w.out == nil {
		return
	}
	lost := w.box.set(false)
	close(w.out.done)
	w.out, w.codec = nil, nil
	w.p.dropped(lost)
	if err != nil {
		w.p.status.log.Warn("lost TCP streaming connection with remote peer",
			zap.String("stream-writer-type", w.kind.String()), zap.Error(err))
	}
}

// write puts messages on the connection and flushes: the queue was emptied by whoever took them.
func (w *writer) write(ms []*raftpb.Message) {
	sent := 0
	flush := func() error {
		if len(w.buf) == 0 {
			return nil
		}
		_, err := w.out.w.Write(w.buf)
		sent += len(w.buf)
		w.buf = w.buf[:0]
		return err
	}
	var err error
	for _, m := range ms {
		if w.buf, err = w.codec.append(w.buf, m); err != nil {
			break
		}
		if len(w.buf) >= writeBytes {
			if err = flush(); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = w.out.control.Flush()
	}
	if cap(w.buf) > bufferBytesKept {
		w.buf = nil
	}
	if err != nil {
		w.buf = nil
		w.p.dropped(1)
		w.p.status.down(err)
		w.end(err)
		return
	}
	w.p.t.o.Observe.Sent(w.p.id, sent)
}

// serve lends the connection of a request to the writer until it is through with it.
func (w *writer) serve(rw http.ResponseWriter, r *http.Request) {
	o := &outgoing{w: rw, control: http.NewResponseController(rw), gone: r.Context().Done(), done: make(chan struct{})}
	select {
	case w.attach <- o:
	case <-w.p.ctx.Done():
		return
	case <-r.Context().Done():
		return
	}
	select {
	case <-o.done:
	case <-w.p.ctx.Done():
		// A write may hang on a member that reads no more. What is past ends it.
		_ = o.control.SetWriteDeadline(time.Unix(1, 0))
		<-o.done
	}
}
