package rpc

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keelson/internal/kit/wire"
)

// kvService dispatches etcdserverpb.KV by a description of its own, because its answers are wire's types: protoc's
// code knows only its own.
type kvService struct {
	kv   KV
	gate *gate

	// The counters of each method, resolved when the service was built.
	rangeCalls, put, deleteRange, txn, compact *method
}

func newKV(kv KV, g *gate) *kvService {
	g.metrics.add(kvDesc(), toStatus)
	by := g.metrics.methods
	return &kvService{
		kv: kv, gate: g,
		rangeCalls:  by[pb.KV_Range_FullMethodName],
		put:         by[pb.KV_Put_FullMethodName],
		deleteRange: by[pb.KV_DeleteRange_FullMethodName],
		txn:         by[pb.KV_Txn_FullMethodName],
		compact:     by[pb.KV_Compact_FullMethodName],
	}
}

// addTo makes the unary calls in this process: they need no description.
func (s *kvService) addTo(l *local) {
	l.unary[pb.KV_Range_FullMethodName] = hot(s.gate, s.rangeCalls, s.kv.Range)
	l.unary[pb.KV_Put_FullMethodName] = hot(s.gate, s.put, s.kv.Put)
	l.unary[pb.KV_DeleteRange_FullMethodName] = hot(s.gate, s.deleteRange, s.kv.DeleteRange)
	l.unary[pb.KV_Txn_FullMethodName] = hot(s.gate, s.txn, s.kv.Txn)
	l.unary[pb.KV_Compact_FullMethodName] = hot(s.gate, s.compact, s.kv.Compact)
}

func kvDesc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: pb.KV_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Range", Handler: handleRange},
			{MethodName: "Put", Handler: handlePut},
			{MethodName: "DeleteRange", Handler: handleDeleteRange},
			{MethodName: "Txn", Handler: handleTxn},
			{MethodName: "Compact", Handler: handleCompact},
		},
		Streams:  []grpc.StreamDesc{{StreamName: "RangeStream", Handler: handleRangeStream, ServerStreams: true}},
		Metadata: pb.KV_ServiceDesc.Metadata,
	}
}

// The unary handlers pass the gate themselves instead of through the interceptor, with their types known.

func handleRange(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	s, r := srv.(*kvService), new(pb.RangeRequest)
	if err := dec(r); err != nil {
		return nil, err
	}
	return unary(ctx, s.gate, s.rangeCalls, r, s.kv.Range)
}

func handlePut(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	s, r := srv.(*kvService), new(pb.PutRequest)
	if err := dec(r); err != nil {
		return nil, err
	}
	return unary(ctx, s.gate, s.put, r, s.kv.Put)
}

func handleDeleteRange(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	s, r := srv.(*kvService), new(pb.DeleteRangeRequest)
	if err := dec(r); err != nil {
		return nil, err
	}
	return unary(ctx, s.gate, s.deleteRange, r, s.kv.DeleteRange)
}

func handleTxn(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	s, r := srv.(*kvService), new(pb.TxnRequest)
	if err := dec(r); err != nil {
		return nil, err
	}
	return unary(ctx, s.gate, s.txn, r, s.kv.Txn)
}

func handleCompact(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	s, r := srv.(*kvService), new(pb.CompactionRequest)
	if err := dec(r); err != nil {
		return nil, err
	}
	return unary(ctx, s.gate, s.compact, r, s.kv.Compact)
}

func handleRangeStream(srv any, stream grpc.ServerStream) error {
	r := new(pb.RangeRequest)
	if err := stream.RecvMsg(r); err != nil {
		return err
	}
	return srv.(*kvService).kv.RangeStream(stream.Context(), r, func(part *wire.RangeStreamResponse) error {
		return stream.SendMsg(part)
	})
}
