package grpcproxy

import (
	"context"
	"errors"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/wire"
)

// asParcels has a call to a member send and take parcels.
var asParcels = grpc.ForceCodecV2(codec{})

// forwarder serves etcdserverpb.KV where nothing lies between clients and members: requests and answers go on as parcels, of
// which it reads what the cache has to know.
type forwarder struct {
	to    grpc.ClientConnInterface // made with DialOptions
	cache *cache
}

// register has g serve f. g must have been made with this package's codec.
func (f *forwarder) register(g *grpc.Server) {
	compact := func(b []byte, r *pb.CompactionRequest) error { return proto.Unmarshal(b, r) }
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: pb.KV_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			forwarded(f, pb.KV_Range_FullMethodName, wire.DecodeRangeRequest),
			forwarded(f, pb.KV_Put_FullMethodName, wire.DecodePutRequest),
			forwarded(f, pb.KV_DeleteRange_FullMethodName, wire.DecodeDeleteRangeRequest),
			forwarded(f, pb.KV_Txn_FullMethodName, wire.DecodeTxnRequest),
			forwarded(f, pb.KV_Compact_FullMethodName, compact),
		},
		Streams:  []grpc.StreamDesc{{StreamName: methodOf(pb.KV_RangeStream_FullMethodName), Handler: f.stream, ServerStreams: true}},
		Metadata: pb.KV_ServiceDesc.Metadata,
	}, f)
}

// methodOf is the last part of a method's path.
func methodOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// forwarded describes a method whose requests are read by decode.
func forwarded[R any](f *forwarder, path string, decode func([]byte, *R) error) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: methodOf(path),
		Handler: func(srv any, ctx context.Context, receive func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
			r := new(R)
			p := &parcel{read: func(b []byte) error { return decode(b, r) }}
			if err := receive(p); err != nil {
				return nil, err
			}
			if around == nil {
				return f.serve(ctx, path, r, p)
			}
			return around(ctx, p, &grpc.UnaryServerInfo{Server: srv, FullMethod: path}, func(ctx context.Context, _ any) (any, error) {
				return f.serve(ctx, path, r, p)
			})
		},
	}
}

// pass asks a member. The call bears its caller's token, by DialOptions.
func (f *forwarder) pass(ctx context.Context, path string, p *parcel) (*parcel, error) {
	var answer parcel
	if err := f.to.Invoke(ctx, path, p, &answer, asParcels); err != nil {
		return nil, err
	}
	return &answer, nil
}

// serve answers p, in which r was read.
func (f *forwarder) serve(ctx context.Context, path string, r any, p *parcel) (*parcel, error) {
	asked, ok := r.(*pb.RangeRequest)
	if !ok {
		// An answer that didn't come may hide a change: what is kept goes in every case.
		defer f.cache.changed(r)
		return f.pass(ctx, path, p)
	}
	if !asked.Serializable || callerOf(ctx).named() {
		return f.pass(ctx, path, p)
	}
	return f.kept(ctx, asked, p)
}

// kept answers a serializable range, for anybody.
func (f *forwarder) kept(ctx context.Context, r *pb.RangeRequest, p *parcel) (*parcel, error) {
	id := string(p.bytes)
	if answer, ok := f.cache.get(id).(*parcel); ok {
		return answer, nil
	}
	under := f.cache.begin(id, r.Key, r.RangeEnd)
	answer, err := f.pass(ctx, pb.KV_Range_FullMethodName, p)
	if err != nil {
		f.cache.end(under, nil, 0)
		return nil, err
	}
	f.cache.end(under, answer, len(answer.bytes))
	return answer, nil
}

// stream passes on a RangeStream. Nothing of it is kept: it is for ranges that are too large for one answer.
func (f *forwarder) stream(_ any, to grpc.ServerStream) error {
	var p parcel
	if err := to.RecvMsg(&p); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(to.Context())
	defer cancel()
	from, err := f.to.NewStream(ctx, &pb.KV_ServiceDesc.Streams[0], pb.KV_RangeStream_FullMethodName, asParcels)
	if err == nil {
		err = from.SendMsg(&p)
	}
	if err == nil {
		err = from.CloseSend()
	}
	for err == nil {
		var part parcel
		if err = from.RecvMsg(&part); err == nil {
			err = to.SendMsg(&part)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
