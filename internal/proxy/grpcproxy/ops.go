package grpcproxy

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errEmptyOp is returned for a transaction with an operation that is nothing. A member leaves it out; the client library,
// which takes requests apart for what is around it, has no word for it.
var errEmptyOp = status.Error(codes.InvalidArgument, "grpcproxy: a transaction holds an empty operation: leave it out")

func rangeOp(r *pb.RangeRequest) clientv3.Op {
	return clientv3.OpGet(string(r.Key), rangeOptions(r)...)
}

// rangeOptions are r as the client library takes it.
func rangeOptions(r *pb.RangeRequest) []clientv3.OpOption {
	opts := []clientv3.OpOption{
		clientv3.WithRange(string(r.RangeEnd)), clientv3.WithRev(r.Revision), clientv3.WithLimit(r.Limit),
		clientv3.WithSort(clientv3.SortTarget(r.SortTarget), clientv3.SortOrder(r.SortOrder)),
		clientv3.WithMinModRev(r.MinModRevision), clientv3.WithMaxModRev(r.MaxModRevision),
		clientv3.WithMinCreateRev(r.MinCreateRevision), clientv3.WithMaxCreateRev(r.MaxCreateRevision),
	}
	if r.Serializable {
		opts = append(opts, clientv3.WithSerializable())
	}
	if r.KeysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	if r.CountOnly {
		opts = append(opts, clientv3.WithCountOnly())
	}
	return opts
}

func putOp(r *pb.PutRequest) clientv3.Op {
	opts := []clientv3.OpOption{clientv3.WithLease(clientv3.LeaseID(r.Lease))}
	if r.PrevKv {
		opts = append(opts, clientv3.WithPrevKV())
	}
	if r.IgnoreValue {
		opts = append(opts, clientv3.WithIgnoreValue())
	}
	if r.IgnoreLease {
		opts = append(opts, clientv3.WithIgnoreLease())
	}
	return clientv3.OpPut(string(r.Key), string(r.Value), opts...)
}

func deleteOp(r *pb.DeleteRangeRequest) clientv3.Op {
	opts := []clientv3.OpOption{clientv3.WithRange(string(r.RangeEnd))}
	if r.PrevKv {
		opts = append(opts, clientv3.WithPrevKV())
	}
	return clientv3.OpDelete(string(r.Key), opts...)
}

func txnOp(r *pb.TxnRequest) (clientv3.Op, error) {
	compares := make([]clientv3.Cmp, len(r.Compare))
	for i, c := range r.Compare {
		compares[i] = clientv3.FromCompare(c)
	}
	then, err := branchOps(r.Success)
	if err != nil {
		return clientv3.Op{}, err
	}
	otherwise, err := branchOps(r.Failure)
	if err != nil {
		return clientv3.Op{}, err
	}
	return clientv3.OpTxn(compares, then, otherwise), nil
}

func branchOps(in []*pb.RequestOp) ([]clientv3.Op, error) {
	out := make([]clientv3.Op, 0, len(in))
	for _, op := range in {
		var o clientv3.Op
		var err error
		switch {
		case op.GetRequestRange() != nil:
			o = rangeOp(op.GetRequestRange())
		case op.GetRequestPut() != nil:
			o = putOp(op.GetRequestPut())
		case op.GetRequestDeleteRange() != nil:
			o = deleteOp(op.GetRequestDeleteRange())
		case op.GetRequestTxn() != nil:
			o, err = txnOp(op.GetRequestTxn())
		default:
			err = errEmptyOp
		}
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}
