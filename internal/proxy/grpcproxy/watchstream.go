package grpcproxy

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const (
	// queuedBytesMax and queuedMin with queuedPerWatcher bound what waits for one client: it takes 4 MiB, or 256 answers
	// and four for each of its watchers, before its watchers are behind.
	queuedBytesMax   = 4 << 20
	queuedMin        = 256
	queuedPerWatcher = 4
	// controlsMax bounds the answers to requests that wait: no request is read while there are as many.
	controlsMax = 1024
	// watchersMax bounds the watchers of one stream, at some 300 bytes each.
	watchersMax = 1 << 16
	// noWatcher is the number in an answer that is for none: a refusal, or progress of them all.
	noWatcher = -1
)

// The reasons for a refusal are etcd's texts: clients compare them.
const (
	reasonDuplicate = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonEmpty     = "mvcc: watcher range is empty"
	reasonNegative  = "etcdserver: mvcc: required revision has been compacted"
	reasonMany      = "grpcproxy: too many watchers on one stream: open another"
)

// watchStream is one client's stream of watchers. Requests come in on a goroutine of their own, answers go out on the
// handler's.
type watchStream struct {
	watch  *Watch
	grpc   pb.Watch_WatchServer
	caller caller
	wake   chan struct{} // holds one while there may be something to do for the sender

	mu       sync.Mutex // guards the rest
	err      error      // set where the stream ends
	queue    []queued
	bytes    int           // of the queue
	controls int           // answers to requests in the queue
	free     chan struct{} // closed when the queue was taken
	watchers map[int64]*member
	behind   []*member
	nextID   int64
	header   *pb.ResponseHeader // the last that came
	progress progress
}

// progress is how far an answer to a request for it has got.
type progress struct {
	awaited map[*member]struct{} // the watchers that have not been heard of
	least   *pb.ResponseHeader   // of the others
}

// queued is one answer that waits to be sent.
type queued struct {
	resp     *pb.WatchResponse
	bytes    int
	fragment bool
	control  bool
}

// Watch serves one stream.
func (s *Watch) Watch(stream pb.Watch_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	w := &watchStream{
		watch: s, grpc: stream, caller: callerOf(ctx), wake: make(chan struct{}, 1), free: make(chan struct{}),
		watchers: map[int64]*member{}, header: &pb.ResponseHeader{},
	}
	defer w.close()
	// The receiving goroutine ends with the handler: grpc ends a waiting receive once the handler has returned, and ctx all
	// else that it may wait for.
	go w.receive(ctx)
	return w.send(ctx)
}

// room tells whether an answer of n bytes may be queued. mu is held. An answer that is larger than all room gets it alone.
func (w *watchStream) room(n int) bool {
	return len(w.queue) == 0 || w.bytes+n <= queuedBytesMax && len(w.queue) < queuedMin+queuedPerWatcher*len(w.watchers)
}

// push queues q. mu is held.
func (w *watchStream) push(q queued) {
	if q.resp.Header != nil {
		w.header = q.resp.Header
	}
	if q.control {
		w.controls++
	}
	w.bytes += q.bytes
	w.queue = append(w.queue, q)
	w.signal()
}

func (w *watchStream) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// fail ends the stream with err once what is queued has been sent.
func (w *watchStream) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.signal()
}

// forget takes m out of the stream. mu is held.
func (w *watchStream) forget(m *member) {
	m.gone, m.inside = true, false
	if m.stop != nil {
		m.stop()
	}
	delete(w.watchers, m.id)
	if _, ok := w.progress.awaited[m]; ok {
		delete(w.progress.awaited, m)
		w.tellProgress()
	}
}

// close ends every watcher of the stream.
func (w *watchStream) close() {
	w.mu.Lock()
	if w.err == nil {
		w.err = rpctypes.ErrGRPCWatchCanceled
	}
	w.progress = progress{}
	var all []*member
	for _, m := range w.watchers {
		all = append(all, m)
		w.forget(m)
	}
	w.mu.Unlock()
	for _, m := range all {
		w.watch.remove(m)
	}
}

// send hands the client what is queued. When it has taken all, the watchers that are behind go on.
func (w *watchStream) send(ctx context.Context) error {
	for {
		queue, behind, err := w.take()
		for _, q := range queue {
			if err := w.sendOne(q); err != nil {
				return err
			}
		}
		if err != nil && len(queue) == 0 {
			return err
		}
		for _, m := range behind {
			w.watch.follow(m, 0)
		}
		if len(queue) > 0 || len(behind) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return rpctypes.ErrGRPCWatchCanceled
		case <-w.watch.ctx.Done():
			return errStopped
		}
	}
}

// take empties the queue; where it was empty, it gives the watchers that are behind.
func (w *watchStream) take() (queue []queued, behind []*member, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if queue = w.queue; len(queue) > 0 {
		w.queue, w.bytes, w.controls = nil, 0, 0
		close(w.free)
		w.free = make(chan struct{})
		return queue, nil, w.err
	}
	behind, w.behind = w.behind, nil
	for _, m := range behind {
		m.behind = false
	}
	return nil, behind, w.err
}

// sendOne sends q, in fragments where the client asked for such and q is large.
func (w *watchStream) sendOne(q queued) error {
	if !q.fragment || proto.Size(q.resp) < w.watch.fragment {
		return w.grpc.Send(q.resp)
	}
	for events := q.resp.Events; len(events) > 0; {
		n, bytes := 1, proto.Size(events[0])
		for n < len(events) && bytes+proto.Size(events[n]) < w.watch.fragment {
			bytes += proto.Size(events[n])
			n++
		}
		part := &pb.WatchResponse{Header: q.resp.Header, WatchId: q.resp.WatchId, Events: events[:n], Fragment: n < len(events)}
		if err := w.grpc.Send(part); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// receive takes requests until the client says that no more will come, which leaves its watchers running, or fails.
func (w *watchStream) receive(ctx context.Context) {
	for w.waitForRoom(ctx) {
		r, err := w.grpc.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			w.fail(err)
			return
		}
		switch u := r.RequestUnion.(type) {
		case *pb.WatchRequest_CreateRequest:
			if u.CreateRequest != nil {
				w.create(ctx, u.CreateRequest)
			}
		case *pb.WatchRequest_CancelRequest:
			if u.CancelRequest != nil {
				w.cancel(u.CancelRequest.WatchId)
			}
		case *pb.WatchRequest_ProgressRequest:
			w.requestProgress(ctx)
		}
	}
}

// waitForRoom waits while too many answers to requests are queued. It is false where ctx has ended.
func (w *watchStream) waitForRoom(ctx context.Context) bool {
	for {
		w.mu.Lock()
		full, free := w.controls >= controlsMax, w.free
		w.mu.Unlock()
		if !full {
			return ctx.Err() == nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return false
		}
	}
}

// create adds a watcher, once a member has said that the caller may have it.
func (w *watchStream) create(ctx context.Context, r *pb.WatchCreateRequest) {
	v := sightOf(w.caller, r)
	h, err := w.watch.permit(ctx, v)
	switch {
	case err != nil && ctx.Err() != nil:
		return
	case err != nil && errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader):
		w.fail(rpctypes.ErrGRPCNoLeader)
		return
	case err != nil:
		w.refuse(nil, reason(err))
		return
	}
	h = proto.CloneOf(h)
	h.Revision = max(h.Revision, w.watch.place(v))
	m := &member{stream: w, sight: v, wantsProgress: r.ProgressNotify, fragment: r.Fragment, next: r.StartRevision}
	if m.next == 0 {
		m.next = h.Revision + 1
	}
	if why := w.add(m, r, h); why != "" {
		w.refuse(h, why)
		return
	}
	w.watch.follow(m, h.Revision)
}

// add gives m a number and tells the client; it gives the reason where that can't be.
func (w *watchStream) add(m *member, r *pb.WatchCreateRequest, h *pb.ResponseHeader) (refused string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		m.gone = true
		return ""
	case r.StartRevision < 0:
		return reasonNegative
	case m.sight.empty():
		return reasonEmpty
	case w.watchers[r.WatchId] != nil && r.WatchId != 0:
		return reasonDuplicate
	case len(w.watchers) >= watchersMax:
		return reasonMany
	}
	if m.id = r.WatchId; m.id == 0 {
		for w.watchers[w.nextID] != nil {
			w.nextID++
		}
		m.id = w.nextID
		w.nextID++
	}
	w.watchers[m.id] = m
	w.push(queued{resp: &pb.WatchResponse{Header: h, WatchId: m.id, Created: true}, control: true})
	return ""
}

func (w *watchStream) refuse(h *pb.ResponseHeader, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h == nil {
		h = w.header
	}
	w.push(queued{resp: &pb.WatchResponse{Header: h, WatchId: noWatcher, Created: true, Canceled: true, CancelReason: why}, control: true})
}

// cancel ends the watcher of that number, if there is one.
func (w *watchStream) cancel(id int64) {
	w.mu.Lock()
	m := w.watchers[id]
	if m != nil {
		w.forget(m)
		w.push(queued{resp: &pb.WatchResponse{Header: w.header, WatchId: id, Canceled: true}, control: true})
	}
	w.mu.Unlock()
	if m != nil {
		w.watch.remove(m)
	}
}

// requestProgress asks the members how far the watchers of the stream are. The client hears once all have told, and like
// from a member not at all while one of its watchers is not up to date.
func (w *watchStream) requestProgress(ctx context.Context) {
	if ctx, ok := w.awaitProgress(w.caller.outgoing(ctx)); ok {
		// One that fails is as one that a member leaves out: clients ask again.
		_ = w.watch.watcher.RequestProgress(ctx)
	}
}

// awaitProgress waits for each watcher to be told of progress, and gives the context in which members are to be asked for it.
// Where watchers catch up, members tell these: one that has no events to come learns so that it has caught up.
func (w *watchStream) awaitProgress(ctx context.Context) (context.Context, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	awaited, catchUp := map[*member]struct{}{}, false
	for _, m := range w.watchers {
		if m.behind {
			return nil, false
		}
		catchUp = catchUp || !m.inside
		awaited[m] = struct{}{}
	}
	if catchUp {
		return metadata.AppendToOutgoingContext(ctx, apart, "true"), true
	}
	w.progress = progress{awaited: awaited}
	return ctx, len(awaited) > 0
}

// tellProgress answers a request for progress once every watcher has been heard of. mu is held.
func (w *watchStream) tellProgress() {
	if len(w.progress.awaited) > 0 || w.progress.least == nil {
		return
	}
	w.push(queued{resp: &pb.WatchResponse{Header: w.progress.least, WatchId: noWatcher}, control: true})
	w.progress.least = nil
}
