package grpcproxy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"keelson/internal/kit/clock"
)

// A linearizable range asks the member each time; a serializable one may be a second old, but never older than what went
// through the proxy.
func TestCacheIsForSerializableRanges(t *testing.T) {
	f := serve(t)
	get := func(want string, opts ...clientv3.OpOption) {
		t.Helper()
		r, err := f.proxy.Get(t.Context(), "k", opts...)
		if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != want {
			t.Fatalf("%v, %v instead of %s", r, err, want)
		}
	}
	f.put("k", "1")
	get("1", clientv3.WithSerializable())
	get("1", clientv3.WithSerializable(), clientv3.WithPrefix())
	f.put("k", "2")
	get("2")
	for _, change := range []func() error{
		func() error { _, err := f.proxy.Put(t.Context(), "k", "3"); return err },
		func() error {
			_, err := f.proxy.Txn(t.Context()).Then(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("k", "3")}, nil)).Commit()
			return err
		},
		func() error {
			if _, err := f.proxy.Delete(t.Context(), "a", clientv3.WithRange("z")); err != nil {
				return err
			}
			_, err := f.direct.Put(t.Context(), "k", "3")
			return err
		},
	} {
		f.put("k", "old")
		get("old")
		if err := change(); err != nil {
			t.Fatal(err)
		}
		get("3", clientv3.WithSerializable())
		get("3", clientv3.WithSerializable(), clientv3.WithPrefix())
	}
	rev := f.put("k", "4")
	get("4", clientv3.WithRev(rev), clientv3.WithSerializable())
	now := f.put("k", "5")
	if _, err := f.proxy.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if _, err := f.proxy.Get(t.Context(), "k", clientv3.WithRev(rev), clientv3.WithSerializable()); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Error(err)
	}
}

func answerOf(count int) *pb.RangeResponse { return &pb.RangeResponse{Count: int64(count)} }

// An answer is not kept when a change of its keys came back while it was on its way.
func TestCacheTakesNoOvertakenAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // an answer is kept for a second
		c := newCache(clock.System)
		f, other := c.begin("f", []byte("a"), []byte("c")), c.begin("other", []byte("c"), nil)
		c.drop([]byte("b"), nil)
		c.end(f, answerOf(1), 1)
		c.end(other, answerOf(1), 1)
		if c.get("f") != nil || c.get("other") == nil {
			t.Error("kept what a change has overtaken, or not what none has")
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(clock.System)
		for i := range cacheEntriesMax + 10 {
			id := fmt.Sprint(i)
			c.end(c.begin(id, []byte(id), nil), answerOf(i), 1)
		}
		if len(c.entries) != cacheEntriesMax || c.get("9") != nil || c.get("10") == nil {
			t.Error("not the oldest went")
		}
		time.Sleep(cacheTime)
		if c.get("11") != nil {
			t.Error("kept too long")
		}
		c.clear()
		if len(c.entries) != 0 || c.bytes != 0 || c.recent.Len() != 0 {
			t.Error("something stays", c.bytes)
		}
		if c.end(c.begin("big", []byte("k"), nil), answerOf(1), cacheAnswerMax); c.get("big") != nil {
			t.Error("too large an answer is kept")
		}
	})
}

func TestSpansOverlap(t *testing.T) {
	all := span{[]byte{0}, []byte{0}}
	of := func(key, end string) span { return span{[]byte(key), []byte(end)} }
	for _, c := range []struct {
		a, b span
		want bool
	}{
		{of("a", ""), of("a", ""), true}, {of("a", ""), of("b", ""), false}, {of("a", "c"), of("b", ""), true},
		{of("a", "c"), of("c", ""), false}, {of("a", "c"), of("c", "d"), false}, {of("a", "c"), of("b", "d"), true},
		{of("b", "\x00"), of("a", ""), false}, {of("b", "\x00"), of("z", ""), true}, {all, of("a", "b"), true},
	} {
		if c.a.overlaps(c.b) != c.want || c.b.overlaps(c.a) != c.want {
			t.Errorf("%q and %q: not %t", c.a, c.b, c.want)
		}
	}
}

// Every kind of request comes through unhurt where a namespace takes requests apart.
func TestNamespace(t *testing.T) {
	f := serve(t)
	s := &layered{kv: namespace.NewKV(f.direct.KV, "ns/"), cache: newCache(clock.System)}
	ctx := context.Background()
	if r, err := s.Put(ctx, &pb.PutRequest{Key: []byte("a"), Value: []byte("1")}); err != nil || r.Header.Revision == 0 {
		t.Fatal(r, err)
	}
	f.put("outside", "x")
	r, err := s.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Serializable: true})
	if err != nil || r.Count != 1 || string(r.Kvs[0].Key) != "a" {
		t.Fatal(r, err)
	}
	txn, err := s.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("a"), Result: pb.Compare_EQUAL, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("1")}}},
		Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("b"), Value: []byte("2"), PrevKv: true}}},
			{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a"), Limit: 1}}},
			{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{}}},
		},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("a")}}}},
	})
	if err != nil || !txn.Succeeded || len(txn.Responses) != 3 || string(txn.Responses[1].GetResponseRange().Kvs[0].Key) != "a" {
		t.Fatal(txn, err)
	}
	if _, err := s.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{}}}); !errors.Is(err, errEmptyOp) {
		t.Error(err)
	}
	if _, err := s.Put(ctx, &pb.PutRequest{}); !errors.Is(err, rpctypes.ErrGRPCEmptyKey) {
		t.Error(err)
	}
	if d, err := s.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("b"), PrevKv: true}); err != nil || d.Deleted != 1 || string(d.PrevKvs[0].Key) != "b" {
		t.Fatal(d, err)
	}
	if c, err := s.Compact(ctx, &pb.CompactionRequest{Revision: r.Header.Revision}); err != nil || c.Header == nil {
		t.Fatal(c, err)
	}
	if n, err := f.direct.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithKeysOnly()); err != nil || n.Count != 2 || string(n.Kvs[0].Key) != "ns/a" {
		t.Fatal(n, err)
	}
}
