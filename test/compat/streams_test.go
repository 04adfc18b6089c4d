package compat

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// streamsOpen is how many watch streams a program has. The last is for watchers that start in the future: a stream with
// one of them is not told of progress.
const (
	streamsOpen  = 3
	futureStream = streamsOpen - 1
)

// watchStream is one stream and all that came on it. mu guards what its reader writes.
type watchStream struct {
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	items    map[int64][]proto.Message // of each watcher, in order: created, an event each, canceled
	controls int
	live     int
	// seen is the highest revision of an event, told that of the newest progress.
	seen, told int64
	inFragment bool
	broken     string
	err        error
}

func (s *side) openStream(leader bool) error {
	ctx, cancel := context.WithCancel(s.ctx)
	if leader {
		ctx = metadata.AppendToOutgoingContext(ctx, "hasleader", "true")
	}
	stream, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		cancel()
		return err
	}
	w := &watchStream{stream: stream, cancel: cancel, done: make(chan struct{}), items: map[int64][]proto.Message{}}
	s.streams = append(s.streams, w)
	go w.read()
	return nil
}

// endStreams ends all streams and waits for their readers.
func (s *side) endStreams() {
	for _, w := range s.streams {
		w.cancel()
		<-w.done
	}
	s.streams = nil
}

func (w *watchStream) read() {
	defer close(w.done)
	for {
		r, err := w.stream.Recv()
		w.mu.Lock()
		if err != nil {
			w.err = err
			w.mu.Unlock()
			return
		}
		w.take(r)
		w.mu.Unlock()
	}
}

// take sorts one response in, and checks what must hold of it whoever sent it.
func (w *watchStream) take(r *pb.WatchResponse) {
	rev := r.Header.GetRevision()
	if r.Created || r.Canceled {
		w.items[r.WatchId] = append(w.items[r.WatchId], r)
		w.controls++
		switch {
		case r.Created && !r.Canceled:
			w.live++
		case !r.Created:
			w.live--
		}
		return
	}
	if len(r.Events) == 0 {
		if w.told = max(w.told, rev); w.inFragment {
			w.broken = "progress between two fragments"
		}
		if rev < w.seen {
			w.broken = fmt.Sprintf("progress to %d after an event of %d", rev, w.seen)
		}
		return
	}
	w.inFragment = r.Fragment
	for _, e := range r.Events {
		if e.Kv.ModRevision > rev {
			w.broken = fmt.Sprintf("an event of %d in an answer of %d", e.Kv.ModRevision, rev)
		}
		w.seen = max(w.seen, e.Kv.ModRevision)
		w.items[r.WatchId] = append(w.items[r.WatchId], &pb.WatchResponse{WatchId: r.WatchId, Events: []*mvccpb.Event{e}})
	}
}

func (w *watchStream) count() (controls, live int, told int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.controls, w.live, w.told
}

// gathered are all items so far, watcher by watcher.
func (w *watchStream) gathered() []answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []answer
	for _, id := range slices.Sorted(maps.Keys(w.items)) {
		for _, m := range w.items[id] {
			all = append(all, answer{msg: m})
		}
	}
	if w.err != nil {
		all = append(all, answer{err: w.err})
	}
	return all
}

// forget drops what was compared.
func (w *watchStream) forget() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.items)
	return w.broken
}

func (s *side) sendWatch(n int, r *pb.WatchRequest) {
	_ = s.streams[n].stream.Send(r) // its reader has the reason of a failure
}

// openStreams opens the streams of a program.
func (p *pair) openStreams(leader bool) {
	p.deaf = [streamsOpen]bool{}
	for _, s := range []*side{p.ours, p.real} {
		for range streamsOpen {
			if err := s.openStream(leader); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// watch creates a watcher and waits for its answer.
func (p *pair) watch(n int, r *pb.WatchCreateRequest) {
	p.t.Helper()
	if p.diverged {
		return
	}
	before := map[*side]int{}
	for _, s := range []*side{p.ours, p.real} {
		before[s], _, _ = s.streams[n].count()
		s.sendWatch(n, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	}
	p.note(fmt.Sprintf("on stream %d: %s", n, describe(r)))
	p.until("a watcher is created: "+describe(r), func(s *side) bool {
		controls, _, _ := s.streams[n].count()
		return controls > before[s]
	})
	for _, s := range []*side{p.ours, p.real} {
		s.streams[n].mu.Lock()
		s.streams[n].told = 0 // the new one may have to catch up: what was told does not hold for it
		s.streams[n].mu.Unlock()
	}
}

// settle waits until every event up to rev came to both, and compares what came on all streams.
func (p *pair) settle(rev int64) {
	p.t.Helper()
	progress := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	for n := range futureStream {
		if p.deaf[n] {
			continue
		}
		p.until(fmt.Sprintf("stream %d is told of progress to %d", n, rev), func(s *side) bool {
			if _, live, told := s.streams[n].count(); live > 0 && told < rev {
				s.sendWatch(n, progress)
				return false
			}
			return true
		})
	}
	for n := range streamsOpen {
		p.agreeOn(n)
	}
}

// agreeOn waits until both sides sent the same on a stream.
func (p *pair) agreeOn(n int) {
	p.t.Helper()
	if p.diverged {
		return
	}
	got, want := p.ours.streams[n], p.real.streams[n]
	equal := func(*side) bool { return slices.EqualFunc(got.gathered(), want.gathered(), p.same) }
	if !equal(nil) {
		p.until(fmt.Sprintf("both sent the same on stream %d", n), equal)
	}
	if !equal(nil) {
		p.compare(fmt.Sprintf("watchers of stream %d", n), got.gathered(), want.gathered())
	}
	if broken := got.forget(); broken != "" {
		p.t.Errorf("%s: keelson's stream %d: %s", p.where, n, broken)
	}
	if broken := want.forget(); broken != "" {
		p.t.Logf("%s: etcd's stream %d: %s", p.where, n, broken)
	}
}
