package rpc

import (
	"context"
	"fmt"
	"io"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// localStream is a stream in this process, seen by who called. An answer goes straight into the message that its reader
// waits with, so the handler is never ahead of a slow reader by more than one.
type localStream struct {
	local *local
	desc  *grpc.StreamDesc
	ctx   context.Context

	asks     chan any // requests
	asked    chan struct{}
	closeAsk func() // closes asked: no more requests come

	slots  chan any   // messages to be filled
	filled chan error // what came of the last one; for each slot taken one

	done chan struct{} // closed when the handler has returned
	err  error         // its outcome, set before that
}

var _ grpc.ClientStream = (*localStream)(nil)

// NewStream starts a call with streams.
func (l *local) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	h, ok := l.streams[method]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	if !l.begin() {
		return nil, rpctypes.ErrGRPCStopped
	}
	ctx, release := l.bounded(received(ctx))
	s := &localStream{
		local: l, desc: h.desc, ctx: ctx, asks: make(chan any, 1), asked: make(chan struct{}),
		slots: make(chan any), filled: make(chan error, 1), done: make(chan struct{}),
	}
	s.closeAsk = sync.OnceFunc(func() { close(s.asked) })
	info := &grpc.StreamServerInfo{FullMethod: method, IsClientStream: h.desc.ClientStreams, IsServerStream: h.desc.ServerStreams}
	go func() {
		defer l.running.Done()
		defer release()
		s.err = l.gate.interceptStream(h.service, localHandlerStream{s}, info, h.desc.Handler)
		close(s.done)
	}()
	return s, nil
}

func (s *localStream) Context() context.Context { return s.ctx }

// Header is empty: answers here have no metadata.
func (s *localStream) Header() (metadata.MD, error) { return nil, nil }

func (s *localStream) Trailer() metadata.MD { return nil }

func (s *localStream) CloseSend() error {
	s.closeAsk()
	return nil
}

// SendMsg hands a request over. As with gRPC, io.EOF says that the stream is over, and RecvMsg why; where one request is all
// there is, RecvMsg alone tells.
func (s *localStream) SendMsg(m any) error {
	select {
	case s.asks <- m:
		return nil
	case <-s.done:
	case <-s.ctx.Done():
	}
	if !s.desc.ClientStreams {
		return nil
	}
	return io.EOF
}

func (s *localStream) RecvMsg(m any) error {
	select {
	case s.slots <- m:
		return <-s.filled
	case <-s.done:
		return s.outcome()
	case <-s.ctx.Done():
	}
	select {
	case <-s.done:
		return s.outcome()
	default:
		return toStatus(context.Cause(s.ctx))
	}
}

// outcome is how the stream ended.
func (s *localStream) outcome() error {
	if s.err == nil {
		return io.EOF
	}
	return s.err
}

// localHandlerStream is the same stream, seen by its handler.
type localHandlerStream struct{ s *localStream }

var _ grpc.ServerStream = localHandlerStream{}

func (h localHandlerStream) Context() context.Context { return h.s.ctx }

func (h localHandlerStream) SetHeader(metadata.MD) error { return nil }

func (h localHandlerStream) SendHeader(metadata.MD) error { return nil }

func (h localHandlerStream) SetTrailer(metadata.MD) {}

// SendMsg returns when the message is copied.
func (h localHandlerStream) SendMsg(m any) error {
	select {
	case slot := <-h.s.slots:
		err := h.s.local.give(m, slot)
		h.s.filled <- err
		return err
	case <-h.s.ctx.Done():
		return toStatus(context.Cause(h.s.ctx))
	}
}

// RecvMsg ends with the handler, too: the stream's context does.
func (h localHandlerStream) RecvMsg(to any) error {
	select {
	case ask := <-h.s.asks:
		return h.take(to, ask)
	case <-h.s.ctx.Done():
		return toStatus(context.Cause(h.s.ctx))
	case <-h.s.asked:
	}
	select {
	case ask := <-h.s.asks: // it was sent before the end
		return h.take(to, ask)
	default:
		return io.EOF
	}
}

func (h localHandlerStream) take(to, ask any) error {
	if err := h.s.local.measure(ask); err != nil {
		return err
	}
	if err := move(to, ask); err != nil {
		return fmt.Errorf("rpc: receive in this process: %w", err)
	}
	return nil
}
