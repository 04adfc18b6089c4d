package rpc

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
	"keelson/internal/state/watch"
)

// watchService dispatches etcdserverpb.Watch by a description of its own: its answers are wire's.
type watchService struct {
	state   State
	metrics *metrics
	clock   clock.Clock
	lg      *zap.Logger
}

func watchDesc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: pb.Watch_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: "Watch", Handler: handleWatch, ServerStreams: true, ClientStreams: true}},
		Metadata:    pb.Watch_ServiceDesc.Metadata,
	}
}

func handleWatch(srv any, stream grpc.ServerStream) error {
	s := srv.(*watchService)
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	w := &watchStream{watchService: s, grpc: stream, hub: s.state.Watch().NewStream(s.state.Header)}
	defer w.hub.Close()
	// The receiving goroutine ends with the handler: grpc ends a waiting receive once the handler has returned.
	go w.receive(ctx, cancel)
	err := w.send(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) {
		return rpctypes.ErrGRPCWatchCanceled
	}
	return err
}

// watchStream is one client's stream of watchers. Requests come in on a goroutine of their own; answers go out on the
// handler's, in the order in which the hub gives them.
type watchStream struct {
	*watchService
	grpc grpc.ServerStream
	hub  *watch.Stream
}

// send hands the hub's answers to the client until ctx ends or the client is gone.
func (w *watchStream) send(ctx context.Context) error {
	for {
		resp, err := w.hub.Next(ctx)
		if err != nil {
			return err
		}
		if err := w.sendOne(resp); err != nil {
			w.failed(ctx, "send", err)
			return err
		}
	}
}

func (w *watchStream) sendOne(resp *wire.WatchResponse) error {
	start := w.clock.Now()
	if err := w.grpc.SendMsg(resp); err != nil {
		return err
	}
	took := w.clock.Now().Sub(start).Seconds()
	if n := len(resp.Events); n > 0 {
		w.metrics.watchSend.Observe(took)
		w.metrics.watchPerEvent.Observe(took / float64(n))
		return nil
	}
	w.metrics.watchControl.Observe(took)
	return nil
}

// receive takes requests until the client says that no more will come, which leaves its watchers running, or fails,
// which ends the stream through cancel.
func (w *watchStream) receive(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		r := new(pb.WatchRequest)
		err := w.grpc.RecvMsg(r)
		if err == nil {
			err = w.handle(r)
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			w.failed(ctx, "receive", err)
			cancel(err)
			return
		}
	}
}

// handle does what r asks. Whatever there is to answer, a refusal too, comes out of the hub in its turn.
func (w *watchStream) handle(r *pb.WatchRequest) error {
	switch u := r.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		if u.CreateRequest == nil {
			return nil
		}
		return w.create(u.CreateRequest)
	case *pb.WatchRequest_CancelRequest:
		if u.CancelRequest != nil {
			w.hub.Cancel(u.CancelRequest.WatchId)
		}
	case *pb.WatchRequest_ProgressRequest:
		if u.ProgressRequest != nil {
			w.hub.RequestProgress()
		}
	default:
		w.lg.Info("a watch request of an unknown kind is left out")
	}
	return nil
}

// create adds a watcher, unless the caller may not read what it would see.
func (w *watchStream) create(r *pb.WatchCreateRequest) error {
	q := watchRequest(r)
	still, err := w.state.MayWatch(w.grpc.Context(), q.Key, q.End)
	if err != nil {
		w.hub.Refuse(refusal(err))
		return nil
	}
	q.Lost = func() string { return refusal(still()) }
	if _, err := w.hub.Watch(q); errors.Is(err, watch.ErrClosed) {
		return err
	}
	return nil
}

// refusal is how a watcher's cancellation tells why: the status as grpc writes it, as in etcd. Empty for no reason.
func refusal(err error) string {
	if err == nil {
		return ""
	}
	return toStatus(err).Error()
}

// watchRequest is r as the hub takes it.
func watchRequest(r *pb.WatchCreateRequest) watch.WatchRequest {
	if len(r.Key) == 0 {
		r.Key = []byte{0} // the smallest key there is
	}
	q := watch.WatchRequest{
		ID: r.WatchId, Key: r.Key, End: r.RangeEnd, StartRev: r.StartRevision,
		PrevKV: r.PrevKv, Progress: r.ProgressNotify, Fragment: r.Fragment,
	}
	for _, f := range r.Filters {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			q.NoPut = true
		case pb.WatchCreateRequest_NODELETE:
			q.NoDelete = true
		}
	}
	return q
}

func (w *watchStream) failed(ctx context.Context, way string, err error) {
	if clientGone(ctx, err) {
		w.lg.Debug("a watch stream ended", zap.String("at", way), zap.Error(err))
		return
	}
	w.lg.Warn("a watch stream failed", zap.String("at", way), zap.Error(err))
	w.metrics.streamFailures.WithLabelValues(way, "watch").Inc()
}
