package rpc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/watch"
)

// queue is what locks and elections are made of: under a prefix, each who waits has a key of its own that is attached
// to its lease, and the one whose key was created first has the turn. The layout is that of etcd's clients, which
// take part in the same queues with requests of their own.
type queue struct {
	kv    KV
	lease Lease
	state State
}

// sessionTTL is the time to live in seconds of a lease that is granted for a caller that brings none.
const sessionTTL = 60

// errLostWatch is returned when the hub ended a watch for no reason of the caller's.
var errLostWatch = errors.New("rpc: lost the watcher of a lock or an election")

// session gives the lease to wait with: the caller's, or a new one.
func (q *queue) session(ctx context.Context, id int64) (int64, error) {
	if id != 0 {
		return id, nil
	}
	resp, err := q.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: sessionTTL})
	if err != nil {
		return 0, err
	}
	return resp.ID, nil
}

// prefixOf is the prefix of a queue's keys, keyOf the key of one who waits.
func prefixOf(name []byte) []byte { return append(bytes.Clone(name), '/') }

func keyOf(prefix []byte, lease int64) []byte { return fmt.Appendf(bytes.Clone(prefix), "%x", lease) }

// endOf is the first key after those with prefix; {0}, which stands for no end, where there is none.
func endOf(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return []byte{0}
}

// first asks for the key with the turn.
func first(prefix []byte) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: prefix, RangeEnd: endOf(prefix), Limit: 1,
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND,
	}
}

func ifCreatedAt(key []byte, rev int64) []*pb.Compare {
	return []*pb.Compare{{
		Key: key, Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: rev},
	}}
}

func getOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func putOp(key, value []byte, lease int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value, Lease: lease}}}
}

func deleteOp(key []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}
}

// firstKV decodes the first key-value that a range found.
func firstKV(r *wire.RangeResponse) (kv wire.KeyValue, ok bool, err error) {
	if len(r.KVs) == 0 {
		return wire.KeyValue{}, false, nil
	}
	kv, err = wire.ParseKeyValue(r.KVs[0])
	return kv, err == nil, err
}

// waitTurn returns when every key under prefix that was created at or before rev is gone. It watches the last one of
// them only, so that a release wakes one of those who wait.
func (q *queue) waitTurn(ctx context.Context, prefix []byte, rev int64) error {
	for {
		resp, err := q.kv.Range(ctx, &pb.RangeRequest{
			Key: prefix, RangeEnd: endOf(prefix), Limit: 1, MaxCreateRevision: rev,
			SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_DESCEND,
		})
		if err != nil {
			return err
		}
		kv, ok, err := firstKV(resp)
		if err != nil || !ok {
			return err
		}
		err = q.follow(ctx, kv.Key, nil, resp.Header.Revision, func(_ wire.Header, e wire.Event) (bool, error) {
			return !e.Delete, nil
		})
		if err != nil {
			return err
		}
	}
}

// follow calls f with the events of [key, end) from rev on, in order, until f answers false or fails.
func (q *queue) follow(ctx context.Context, key, end []byte, rev int64, f func(wire.Header, wire.Event) (more bool, err error)) error {
	still, err := q.state.MayWatch(ctx, key, end)
	if err != nil {
		return err
	}
	s := q.state.Watch().NewStream(q.state.Header)
	defer s.Close()
	lost := func() string { return refusal(still()) }
	if _, err := s.Watch(watch.WatchRequest{Key: key, End: end, StartRev: rev, Lost: lost}); err != nil {
		return err
	}
	for {
		resp, err := s.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range resp.Events {
			if more, err := f(resp.Header, e); err != nil || !more {
				return err
			}
		}
		switch {
		case resp.CompactRevision != 0:
			return mvcc.ErrCompacted
		case resp.Canceled:
			return cmp.Or(still(), errLostWatch)
		}
	}
}
