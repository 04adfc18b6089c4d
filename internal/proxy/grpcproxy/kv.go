package grpcproxy

import (
	"context"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// layered serves etcdserverpb.KV where something lies between clients and members, such as a namespace: requests are taken
// apart for it. Serializable ranges that the cache has don't get that far.
type layered struct {
	pb.UnsafeKVServer
	kv clientv3.KV
	// plain is needed where kv answers some reads by itself, as leasing does, whoever asks; nil where it doesn't. It never
	// does, and is asked in kv's place for callers with a token, and for all once there was one.
	plain clientv3.KV
	users atomic.Bool // a call bore a token
	cache *cache
}

var _ pb.KVServer = (*layered)(nil)

func (s *layered) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	c := callerOf(ctx)
	ctx = c.outgoing(ctx)
	if !r.Serializable || c.named() {
		return s.ask(ctx, c, r)
	}
	id := cacheID(r)
	if resp, ok := s.cache.get(id).(*pb.RangeResponse); ok {
		return resp, nil
	}
	f := s.cache.begin(id, r.Key, r.RangeEnd)
	resp, err := s.ask(ctx, c, r)
	if err != nil {
		s.cache.end(f, nil, 0)
		return nil, err
	}
	s.cache.end(f, resp, proto.Size(resp))
	return resp, nil
}

// reader is what to read from for c.
func (s *layered) reader(c caller) clientv3.KV {
	if s.plain == nil {
		return s.kv
	}
	if c.named() {
		s.users.Store(true)
	}
	if s.users.Load() {
		return s.plain
	}
	return s.kv
}

func (s *layered) ask(ctx context.Context, c caller, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	resp, err := s.reader(c).Do(ctx, rangeOp(r))
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.RangeResponse)(resp.Get()), nil
}

// RangeStream is never kept: it is for ranges that are too large for one answer.
func (s *layered) RangeStream(r *pb.RangeRequest, to grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	c := callerOf(to.Context())
	ctx, cancel := context.WithCancel(c.outgoing(to.Context()))
	defer cancel()
	return streamFrom(ctx, s.reader(c), r, to)
}

func streamFrom(ctx context.Context, kv clientv3.KV, r *pb.RangeRequest, to grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	from, err := kv.GetStream(ctx, string(r.Key), rangeOptions(r)...)
	if err != nil {
		return statusOf(err)
	}
	// The library's goroutine hands over what it has received until from is closed: it is heard out, so that it ends.
	var failed error
	for part := range from {
		switch {
		case failed != nil:
		case part.Err() != nil:
			failed = statusOf(part.Err())
		default:
			failed = to.Send(&pb.RangeStreamResponse{RangeResponse: part.RangeResponse})
		}
	}
	return failed
}

func (s *layered) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	ctx = callerOf(ctx).outgoing(ctx)
	// An answer that didn't come may hide a change: what is kept goes in every case.
	defer s.cache.changed(r)
	resp, err := s.kv.Do(ctx, putOp(r))
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.PutResponse)(resp.Put()), nil
}

func (s *layered) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	ctx = callerOf(ctx).outgoing(ctx)
	defer s.cache.changed(r)
	resp, err := s.kv.Do(ctx, deleteOp(r))
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.DeleteRangeResponse)(resp.Del()), nil
}

func (s *layered) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	c := callerOf(ctx)
	ctx = c.outgoing(ctx)
	defer s.cache.changed(r)
	op, err := txnOp(r)
	if err != nil {
		return nil, err
	}
	kv := s.kv
	if readsOnly(r) {
		kv = s.reader(c)
	}
	resp, err := kv.Do(ctx, op)
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.TxnResponse)(resp.Txn()), nil
}

// readsOnly tells whether r changes nothing, so that it may be answered without the members.
func readsOnly(r *pb.TxnRequest) bool {
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			switch {
			case op.GetRequestRange() != nil:
			case op.GetRequestTxn() != nil && readsOnly(op.GetRequestTxn()):
			default:
				return false
			}
		}
	}
	return true
}

func (s *layered) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	ctx = callerOf(ctx).outgoing(ctx)
	defer s.cache.changed(r)
	var opts []clientv3.CompactOption
	if r.Physical {
		opts = append(opts, clientv3.WithCompactPhysical())
	}
	resp, err := s.kv.Compact(ctx, r.Revision, opts...)
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.CompactionResponse)(resp), nil
}
