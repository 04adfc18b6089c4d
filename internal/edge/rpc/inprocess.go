package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// local is the connection for those in this process: its calls pass the same gate as others, with no socket and no transport
// between, and nothing encoded that need not be. The metadata that a call would send is what its handler receives. Nobody is
// taken for the certificate of a connection here.
//
// It owns the goroutines of its streams' handlers; close ends and joins them, and waits for the other calls.
type local struct {
	gate           *gate
	requestMax     int // bytes, as of a request that comes by gRPC
	sent, received prometheus.Counter
	unary          map[string]localCall
	streams        map[string]localHandler

	ctx context.Context // ends with close
	end context.CancelCauseFunc

	mu      sync.Mutex // guards closed, and running's growth before it
	closed  bool
	running sync.WaitGroup
}

var _ grpc.ClientConnInterface = (*local)(nil)

// localCall makes one unary call. The request is the handler's from then on.
type localCall func(ctx context.Context, ask any) (any, error)

// localHandler is a streaming method.
type localHandler struct {
	service any
	desc    *grpc.StreamDesc
}

// errForeign is returned when a call's arguments are not its method's.
var errForeign = errors.New("rpc: not the messages of this method")

func newLocal(g *gate, requestMax int) *local {
	l := &local{
		gate: g, requestMax: requestMax, sent: g.metrics.sentBytes, received: g.metrics.receivedBytes,
		unary: make(map[string]localCall), streams: make(map[string]localHandler),
	}
	l.ctx, l.end = context.WithCancelCause(context.Background())
	return l
}

// InProcess is a connection to the server's services that stays in this process. A request is the server's from the call on. A
// reply of type *any gets the answer as the member made it, without a copy: of KV these are package wire's, and nothing in an
// answer may be changed. Calls end with Close.
func (s *Server) InProcess() grpc.ClientConnInterface { return s.local }

// add makes a service's methods known, but for those that are known already.
func (l *local) add(desc *grpc.ServiceDesc, service any) {
	for _, m := range desc.Methods {
		name := "/" + desc.ServiceName + "/" + m.MethodName
		if _, known := l.unary[name]; known {
			continue
		}
		l.unary[name] = func(ctx context.Context, ask any) (any, error) {
			ctx, release := l.bounded(ctx)
			defer release()
			return m.Handler(service, ctx, func(to any) error { return move(to, ask) }, l.gate.intercept)
		}
	}
	for i := range desc.Streams {
		l.streams["/"+desc.ServiceName+"/"+desc.Streams[i].StreamName] = localHandler{service, &desc.Streams[i]}
	}
}

// hot makes a call of KV: its request goes to the member as it is.
func hot[Req, Resp any](g *gate, x *method, run func(context.Context, *Req) (*Resp, error)) localCall {
	return func(ctx context.Context, ask any) (any, error) {
		r, ok := ask.(*Req)
		if !ok {
			return nil, fmt.Errorf("%w: %T", errForeign, ask)
		}
		return unary(ctx, g, x, r, run)
	}
}

// Invoke makes a unary call.
func (l *local) Invoke(ctx context.Context, method string, ask, reply any, _ ...grpc.CallOption) error {
	call, ok := l.unary[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	if !l.begin() {
		return rpctypes.ErrGRPCStopped
	}
	defer l.running.Done()
	if err := ctx.Err(); err != nil {
		return toStatus(err)
	}
	if err := l.measure(ask); err != nil {
		return err
	}
	answer, err := call(received(ctx), ask)
	if err != nil {
		return err
	}
	return l.give(answer, reply)
}

// begin counts a call in, unless the server is closed.
func (l *local) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.running.Add(1)
	}
	return !l.closed
}

func (l *local) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end(rpctypes.ErrGRPCStopped)
	l.running.Wait()
}

// bounded gives a context that ends with the server too. KV's calls do without: the member bounds them.
func (l *local) bounded(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// received turns the context of who calls into that of who is called.
func received(ctx context.Context) context.Context {
	if p, ok := peer.FromContext(ctx); ok && p.AuthInfo != nil {
		ctx = peer.NewContext(ctx, &peer.Peer{Addr: p.Addr})
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewIncomingContext(ctx, md)
}

// measure counts a request, and refuses one that gRPC would not read, in its words.
func (l *local) measure(ask any) error {
	m, ok := ask.(proto.Message)
	if !ok {
		return fmt.Errorf("%w: %T", errForeign, ask)
	}
	n := proto.Size(m)
	if n > l.requestMax {
		return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", n, l.requestMax)
	}
	l.received.Add(float64(n))
	return nil
}

// move fills an empty message with another.
func move(to, from any) error {
	t, ok := to.(proto.Message)
	f, also := from.(proto.Message)
	if !ok || !also || t.ProtoReflect().Descriptor() != f.ProtoReflect().Descriptor() {
		return fmt.Errorf("%w: %T and %T", errForeign, to, from)
	}
	proto.Merge(t, f)
	return nil
}

// give hands an answer over, and counts it.
func (l *local) give(from, reply any) error {
	if to, ok := reply.(*any); ok {
		*to = from
		if a, ok := from.(answer); ok {
			l.sent.Add(float64(a.Size()))
		}
		return nil
	}
	a, ok := from.(answer)
	if !ok {
		err := move(reply, from)
		if m, ok := from.(proto.Message); ok && err == nil {
			l.sent.Add(float64(proto.Size(m)))
		}
		return err
	}
	to, ok := reply.(proto.Message)
	if !ok {
		return fmt.Errorf("%w: %T", errForeign, reply)
	}
	n := a.Size()
	l.sent.Add(float64(n))
	if err := proto.Unmarshal(a.AppendTo(make([]byte, 0, n)), to); err != nil {
		return fmt.Errorf("rpc: decode %T as %T: %w", from, reply, err)
	}
	return nil
}
