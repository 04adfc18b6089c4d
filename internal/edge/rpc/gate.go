package rpc

import (
	"context"
	"sync"
	"time"
	"unicode/utf8"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"keelson/internal/kit/clock"
)

// noLeaderMax is how many election timeouts in a row a member sees no leader before it ends the streams that asked
// for one. A new request is refused at once; to end a stream costs its client a reconnection, so it gets longer.
const noLeaderMax = 3

// gate is what every call passes before and after its handler: counters, the checks that hold for all RPCs, and the
// log of slow requests.
type gate struct {
	state   State
	metrics *metrics
	clock   clock.Clock
	slow    slowLog
	// certified is set where clients have to bring a certificate: its name then is a user's.
	certified bool

	// mu guards bound: the streams to be ended when the leader is lost.
	mu    sync.Mutex
	bound map[*countedStream]context.CancelCauseFunc
}

// admit refuses a call that this member can't serve now.
func (g *gate) admit(ctx context.Context, versions *versionCounters, learnerServes bool) error {
	if !learnerServes && g.state.IsLearner() {
		return rpctypes.ErrGRPCNotSupportedForLearner
	}
	version := "unknown"
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey); len(v) > 0 {
		version = v[0]
	}
	if !utf8.ValidString(version) {
		return rpctypes.ErrGRPCInvalidClientAPIVersion
	}
	versions.inc(version)
	if asksForLeader(ctx) && !g.state.HasLeader() {
		return rpctypes.ErrGRPCNoLeader
	}
	return nil
}

// asksForLeader says whether the client would rather fail than wait where there is no leader.
func asksForLeader(ctx context.Context) bool {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
}

// learnerServes says whether a learner may answer req: what needs nobody else's word.
func learnerServes(req any) bool {
	switch r := req.(type) {
	case *pb.StatusRequest:
		return true
	case *pb.RangeRequest:
		return r.Serializable
	}
	return false
}

// unary runs one call of a hot method, with the types known: nothing is looked up and nothing is boxed on the way.
func unary[Req, Resp any](ctx context.Context, g *gate, x *method, req *Req, run func(context.Context, *Req) (*Resp, error)) (any, error) {
	start := g.clock.Now()
	x.started.Inc()
	x.received.Inc()
	var resp *Resp
	err := g.admit(ctx, &g.metrics.unary, learnerServes(req))
	if err == nil && g.state.AuthEnabled() {
		ctx = g.identify(ctx)
		err = toStatus(g.authorize(ctx, x, req))
	}
	if err == nil {
		resp, err = run(ctx, req)
		err = toStatus(err)
	}
	took := g.clock.Now().Sub(start)
	x.sent.Inc()
	x.done(err, took)
	if g.slow.wants(took) {
		g.slow.log(ctx, x.name, start, took, req, any(resp))
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// intercept is the same gate for the services that protoc's code dispatches.
func (g *gate) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	x := g.metrics.methods[info.FullMethod]
	start := g.clock.Now()
	x.started.Inc()
	x.received.Inc()
	var resp any
	err := g.admit(ctx, &g.metrics.unary, learnerServes(req))
	if err == nil {
		ctx = g.identify(ctx)
		if err = g.authorize(ctx, x, req); err == nil {
			resp, err = handler(ctx, req)
		}
		err = x.wireError(err)
	}
	took := g.clock.Now().Sub(start)
	x.sent.Inc()
	x.done(err, took)
	if g.slow.wants(took) {
		g.slow.log(ctx, x.name, start, took, req, resp)
	}
	return resp, err
}

// countedStream is a stream whose messages are counted, and whose context ends with a reason when it asked for a
// leader and there is none.
type countedStream struct {
	grpc.ServerStream
	ctx context.Context
	x   *method
}

func (s *countedStream) Context() context.Context { return s.ctx }

func (s *countedStream) SendMsg(m any) error {
	s.x.sent.Inc()
	return s.ServerStream.SendMsg(m)
}

func (s *countedStream) RecvMsg(m any) error {
	s.x.received.Inc()
	return s.ServerStream.RecvMsg(m)
}

// snapshotMethod is the one stream that a learner serves.
const snapshotMethod = pb.Maintenance_Snapshot_FullMethodName

// interceptStream is the gate of every streaming method.
func (g *gate) interceptStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	x := g.metrics.methods[info.FullMethod]
	start := g.clock.Now()
	x.started.Inc()
	s := &countedStream{ServerStream: ss, ctx: ss.Context(), x: x}
	err := g.admit(s.ctx, &g.metrics.stream, info.FullMethod == snapshotMethod)
	if err == nil {
		if asksForLeader(s.ctx) {
			defer g.bind(s)()
		}
		// A stream may outlast the enabling of auth: what it says of its caller is kept in any case.
		s.ctx = g.identify(s.ctx)
		if err = g.authorize(s.ctx, x, nil); err == nil {
			err = handler(srv, s)
		}
		err = toStatus(err)
	}
	x.done(err, g.clock.Now().Sub(start))
	return err
}

// bind makes s end when the leader is lost, until the function it answers is called.
func (g *gate) bind(s *countedStream) (release func()) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	s.ctx = ctx
	g.mu.Lock()
	g.bound[s] = cancel
	g.mu.Unlock()
	return func() {
		g.mu.Lock()
		delete(g.bound, s)
		g.mu.Unlock()
		cancel(nil)
	}
}

// monitor looks for the leader once an election timeout, until done is closed, and ends the bound streams when there
// was none for noLeaderMax looks.
func (g *gate) monitor(election time.Duration, done <-chan struct{}, lg *zap.Logger) {
	t := g.clock.NewTicker(election)
	defer t.Stop()
	lost := 0
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		if g.state.HasLeader() {
			lost = 0
			continue
		}
		if lost++; lost < noLeaderMax {
			continue
		}
		if n := g.endBound(); n > 0 {
			lg.Warn("ended the streams that asked for a leader", zap.Int("streams", n))
		}
	}
}

func (g *gate) endBound() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.bound)
	for s, cancel := range g.bound {
		cancel(rpctypes.ErrGRPCNoLeader)
		delete(g.bound, s)
	}
	return n
}
