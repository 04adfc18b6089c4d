package grpcproxy

import (
	"context"
	"errors"
	"io"
	"math"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"keelson/internal/kit/clock"
)

// anySize lets answers of every size through: the member has bounded them.
var anySize = grpc.MaxCallRecvMsgSize(math.MaxInt32)

// KVOptions say how a KV works.
type KVOptions struct {
	// Plain is needed where what is around the members' KV answers some reads by itself, as leasing does, whoever asks. It
	// never does, and is asked in its place for callers with a token, and for all once there was one.
	Plain clientv3.KV
	Clock clock.Clock // nil for the machine's own
}

// KV serves etcdserverpb.KV: each call goes to the members, but for serializable ranges that the cache has.
type KV struct {
	pb.UnsafeKVServer
	// remote takes requests as they came, wrapped is asked in its place where it isn't nil.
	remote  pb.KVClient
	wrapped clientv3.KV
	plain   clientv3.KV
	users   atomic.Bool // a call bore a token
	cache   *cache
}

var _ pb.KVServer = (*KV)(nil)

// NewKV gives a KV before the members of u. kv, if it isn't nil, is u's KV with something around it, such as a namespace;
// nil saves the work of taking requests apart.
func NewKV(u *clientv3.Client, kv clientv3.KV, o KVOptions) *KV {
	if o.Clock == nil {
		o.Clock = clock.System
	}
	return &KV{remote: clientv3.RetryKVClient(u), wrapped: kv, plain: o.Plain, cache: newCache(o.Clock)}
}

// Collectors gives what the KV counts.
func (s *KV) Collectors() []prometheus.Collector { return s.cache.collectors() }

func (s *KV) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	c := callerOf(ctx)
	ctx = c.outgoing(ctx)
	if !r.Serializable || c.named() {
		return s.ask(ctx, c, r)
	}
	id := cacheID(r)
	if resp := s.cache.get(id); resp != nil {
		return resp, nil
	}
	f := s.cache.begin(id, r.Key, r.RangeEnd)
	resp, err := s.ask(ctx, c, r)
	s.cache.end(f, resp)
	return resp, err
}

// reader is what to read from for c, where wrapped isn't nil.
func (s *KV) reader(c caller) clientv3.KV {
	if s.plain == nil {
		return s.wrapped
	}
	if c.named() {
		s.users.Store(true)
	}
	if s.users.Load() {
		return s.plain
	}
	return s.wrapped
}

func (s *KV) ask(ctx context.Context, c caller, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if s.wrapped == nil {
		return s.remote.Range(ctx, r, anySize)
	}
	resp, err := s.reader(c).Do(ctx, rangeOp(r))
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.RangeResponse)(resp.Get()), nil
}

// RangeStream is never kept: it is for ranges that are too large for one answer.
func (s *KV) RangeStream(r *pb.RangeRequest, to grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	c := callerOf(to.Context())
	ctx, cancel := context.WithCancel(c.outgoing(to.Context()))
	defer cancel()
	if s.wrapped != nil {
		return streamFrom(ctx, s.reader(c), r, to)
	}
	from, err := s.remote.RangeStream(ctx, r, anySize)
	if err != nil {
		return err
	}
	for {
		resp, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := to.Send(resp); err != nil {
			return err
		}
	}
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

func (s *KV) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	ctx = callerOf(ctx).outgoing(ctx)
	// An answer that didn't come may hide a change: what is kept goes in every case.
	defer s.cache.drop(r.Key, nil)
	if s.wrapped == nil {
		return s.remote.Put(ctx, r, anySize)
	}
	resp, err := s.wrapped.Do(ctx, putOp(r))
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.PutResponse)(resp.Put()), nil
}

func (s *KV) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	ctx = callerOf(ctx).outgoing(ctx)
	defer s.cache.drop(r.Key, r.RangeEnd)
	if s.wrapped == nil {
		return s.remote.DeleteRange(ctx, r, anySize)
	}
	resp, err := s.wrapped.Do(ctx, deleteOp(r))
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.DeleteRangeResponse)(resp.Del()), nil
}

func (s *KV) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	c := callerOf(ctx)
	ctx = c.outgoing(ctx)
	defer s.dropTxn(r)
	if s.wrapped == nil {
		return s.remote.Txn(ctx, r, anySize)
	}
	op, err := txnOp(r)
	if err != nil {
		return nil, err
	}
	kv := s.wrapped
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

// dropTxn takes out of the cache what r may have changed.
func (s *KV) dropTxn(r *pb.TxnRequest) {
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			switch o := op.Request.(type) {
			case *pb.RequestOp_RequestPut:
				s.cache.drop(o.RequestPut.GetKey(), nil)
			case *pb.RequestOp_RequestDeleteRange:
				s.cache.drop(o.RequestDeleteRange.GetKey(), o.RequestDeleteRange.GetRangeEnd())
			case *pb.RequestOp_RequestTxn:
				if o.RequestTxn != nil {
					s.dropTxn(o.RequestTxn)
				}
			}
		}
	}
}

func (s *KV) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	ctx = callerOf(ctx).outgoing(ctx)
	defer s.cache.clear() // ranges at revisions that are gone must fail
	if s.wrapped == nil {
		return s.remote.Compact(ctx, r, anySize)
	}
	var opts []clientv3.CompactOption
	if r.Physical {
		opts = append(opts, clientv3.WithCompactPhysical())
	}
	resp, err := s.wrapped.Compact(ctx, r.Revision, opts...)
	if err != nil {
		return nil, statusOf(err)
	}
	return (*pb.CompactionResponse)(resp), nil
}
