package peer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// raftHandler serves the paths under /raft.
func (t *Transport) raftHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(raftPath, t.guard(http.MethodPost, t.takePost))
	mux.Handle(snapshotPath, t.guard(http.MethodPost, t.takeSnapshot))
	mux.Handle(streamPath, t.guard(http.MethodGet, t.lendStream))
	mux.HandleFunc(probingPath, t.answerProbe)
	return mux
}

// guard lets a member of this cluster in that speaks a version which fits.
func (t *Transport) guard(method string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allow(w, r, method) {
			return
		}
		w.Header().Set("X-Server-Version", version.Version)
		w.Header().Set("X-Etcd-Cluster-ID", hexID(t.ClusterID))
		if t.ctx.Err() != nil {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		if err := compatible(r.Header); err != nil {
			t.refusals.tell(r, "refused a member: its version does not fit", zap.String("remote-version", r.Header.Get("X-Server-Version")), zap.Error(err))
			http.Error(w, textIncompatible, http.StatusPreconditionFailed)
			return
		}
		if theirs := r.Header.Get("X-Etcd-Cluster-ID"); theirs != hexID(t.ClusterID) {
			t.refusals.tell(r, "refused a member of another cluster", zap.String("remote-cluster-id", theirs), zap.String("local-cluster-id", hexID(t.ClusterID)))
			http.Error(w, textMismatch, http.StatusPreconditionFailed)
			return
		}
		h(w, r)
	})
}

// allow answers requests of other methods.
func allow(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method {
		return true
	}
	w.Header().Set("Allow", method)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// learnFrom takes the sender of a request as somebody who can be answered.
func (t *Transport) learnFrom(r *http.Request, id uint64) {
	if urls := r.Header.Get("X-PeerURLs"); urls != "" && id != 0 && !t.Receiver.Removed(id) {
		t.learn(id, strings.Split(urls, ","))
	}
}

func sender(r *http.Request) uint64 {
	id, err := strconv.ParseUint(r.Header.Get("X-Server-From"), 16, 64)
	if err != nil {
		return 0
	}
	return id
}

// takePost takes one message.
func (t *Transport) takePost(w http.ResponseWriter, r *http.Request) {
	from := sender(r)
	t.learnFrom(r, from)
	body := &metered{from: t.body(w, r), room: t.room}
	defer body.empty()
	b, err := io.ReadAll(http.MaxBytesReader(w, io.NopCloser(body), postBytesMax))
	if err != nil {
		t.o.Observe.ReceiveFailed(t.counted(from))
		t.refusals.tell(r, "failed to read a Raft message", zap.Error(err))
		http.Error(w, "error reading raft message", readStatus(err))
		return
	}
	m, err := parseMessage(b, 2*postBytesMax)
	if err != nil || m.GetType() == raftpb.MsgSnap { // a snapshot comes with its file
		t.o.Observe.ReceiveFailed(t.counted(from))
		t.refusals.tell(r, "failed to decode a Raft message", zap.Error(err))
		http.Error(w, "error unmarshalling raft message", http.StatusBadRequest)
		return
	}
	t.o.Observe.Received(t.counted(m.GetFrom()), len(b))
	if !t.admit(w, r, m) {
		return
	}
	if err := t.Receiver.Step(r.Context(), m); err != nil {
		http.Error(w, "error processing raft message", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// readStatus tells a body that never came from one that is too much.
func readStatus(err error) int {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errTooMuch):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// admit answers a message that is not for raft.
func (t *Transport) admit(w http.ResponseWriter, r *http.Request, m *raftpb.Message) bool {
	why := t.unwanted(m)
	if why == "" {
		return true
	}
	t.refusals.tell(r, "rejected a Raft message", zap.String("reason", why), zap.String("from", hexID(m.GetFrom())), zap.String("to", hexID(m.GetTo())))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	writeJSON(w, map[string]string{"message": why})
	return false
}

// writeJSON writes the body of an answer. Whoever does not take it sees that.
func writeJSON(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

// takeSnapshot takes a snapshot message and the db file behind it.
func (t *Transport) takeSnapshot(w http.ResponseWriter, r *http.Request) {
	from := sender(r)
	t.learnFrom(r, from)
	in := t.body(w, r)
	m, body, err := t.snapshotMessage(in)
	if err != nil {
		t.o.Observe.ReceiveFailed(t.counted(from))
		t.refusals.tell(r, "failed to decode a snapshot message", zap.Error(err))
		http.Error(w, "failed to decode raft message ("+err.Error()+")", readStatus(err))
		return
	}
	if m.GetType() != raftpb.MsgSnap {
		t.o.Observe.ReceiveFailed(t.counted(from))
		t.refusals.tell(r, "refused a message that is no snapshot", zap.Stringer("type", m.GetType()))
		http.Error(w, "wrong raft message type", http.StatusBadRequest)
		return
	}
	if !t.admit(w, r, m) {
		return
	}
	index := m.GetSnapshot().GetMetadata().GetIndex()
	log := t.o.Logger.With(zap.String("remote-peer-id", hexID(m.GetFrom())), zap.Uint64("incoming-snapshot-index", index))
	log.Info("receiving database snapshot")
	counted, ended := &counter{r: body}, t.o.Observe.ReceivingSnapshot(t.counted(m.GetFrom()))
	err = t.Receiver.ReceiveSnapshot(r.Context(), m, counted)
	ended(err == nil)
	if err != nil {
		t.o.Observe.ReceiveFailed(t.counted(from))
		log.Warn("failed to receive database snapshot", zap.Error(err))
		http.Error(w, "failed to receive the snapshot ("+err.Error()+")", http.StatusInternalServerError)
		return
	}
	t.o.Observe.Received(t.counted(m.GetFrom()), counted.n)
	log.Info("received and saved database snapshot", zap.Int("bytes", counted.n))
	w.WriteHeader(http.StatusNoContent)
}

// snapshotMessage reads the message before the db file, and gives what follows.
func (t *Transport) snapshotMessage(in io.Reader) (*raftpb.Message, io.Reader, error) {
	body := &metered{from: in, room: t.room}
	defer body.empty()
	buffered := bufio.NewReaderSize(body, readBytes)
	m, err := readMessage(buffered, snapshotBytesMax)
	if err != nil {
		return nil, nil, err
	}
	ahead, err := buffered.Peek(buffered.Buffered())
	return m, io.MultiReader(bytes.NewReader(ahead), in), err
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

// lendStream lends the connection to the writer for the member that asks.
func (t *Transport) lendStream(w http.ResponseWriter, r *http.Request) {
	name, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, streamPath), "/")
	k := kind(0)
	for k < kinds && k.String() != name {
		k++
	}
	from, err := strconv.ParseUint(id, 16, 64)
	if k == kinds || err != nil {
		http.Error(w, "invalid path", http.StatusNotFound)
		return
	}
	if t.Receiver.Removed(from) {
		t.refusals.tell(r, "refused a stream to a removed member", zap.String("from", hexID(from)))
		http.Error(w, "removed member", http.StatusGone)
		return
	}
	p := t.peer(from)
	if p == nil {
		t.learnFrom(r, from)
		t.refusals.tell(r, "refused a stream to a member that is not known here yet", zap.String("from", hexID(from)))
		http.Error(w, "error sender not found", http.StatusNotFound)
		return
	}
	if to := r.Header.Get("X-Raft-To"); to != hexID(t.ID) {
		t.refusals.tell(r, "refused a stream that is meant for another member", zap.String("to", to))
		http.Error(w, "to field mismatch", http.StatusPreconditionFailed)
		return
	}
	w.WriteHeader(http.StatusOK)
	if http.NewResponseController(w).Flush() != nil {
		return // it has gone again
	}
	p.seen()
	p.writers[k].serve(w, r)
}

// answerProbe answers as a stock member's prober expects.
func (t *Transport) answerProbe(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, struct {
		OK  bool
		Now time.Time
	}{true, t.o.Clock.Now()})
}
