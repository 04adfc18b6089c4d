package rpc

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
)

func benchCodec() *codec {
	m := newMetrics(nil, false)
	return &codec{pool: new(buffers), sent: m.sentBytes, received: m.receivedBytes}
}

// BenchmarkEncodeRange500 encodes 500 keys of 16 bytes with values of 256.
func BenchmarkEncodeRange500(b *testing.B) {
	kv := wire.AppendKeyValue(nil, wire.KeyValue{Key: make([]byte, 16), Value: make([]byte, 256), Create: 1e6, Mod: 1e6, Version: 1})
	r := &wire.RangeResponse{Header: &wire.Header{ClusterID: 1, MemberID: 2, Revision: 3, Term: 4}, Count: 500}
	for range 500 {
		r.KVs = append(r.KVs, kv)
	}
	c := benchCodec()
	b.SetBytes(int64(r.Size()))
	b.ReportAllocs()
	for b.Loop() {
		out, err := c.Marshal(r)
		if err != nil {
			b.Fatal(err)
		}
		out.Free()
	}
}

func BenchmarkDecodePut(b *testing.B) {
	data, err := proto.Marshal(&pb.PutRequest{Key: make([]byte, 16), Value: make([]byte, 256)})
	if err != nil {
		b.Fatal(err)
	}
	c, in := benchCodec(), mem.BufferSlice{mem.SliceBuffer(data)}
	b.ReportAllocs()
	for b.Loop() {
		var r pb.PutRequest
		if err := c.Unmarshal(in, &r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGate is what a call costs beside grpc and the member.
func BenchmarkGate(b *testing.B) {
	g := &gate{state: newTestMember(b), metrics: newMetrics(nil, false), clock: clock.System, slow: slowLog{lg: zap.NewNop(), warn: time.Hour}}
	newKV(nil, g)
	x := g.metrics.methods[pb.KV_Put_FullMethodName]
	r, resp := &pb.PutRequest{}, &wire.PutResponse{}
	run := func(context.Context, *pb.PutRequest) (*wire.PutResponse, error) { return resp, nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unary(context.Background(), g, x, r, run); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGetOverBufconn is a whole unary call, client included.
func BenchmarkGetOverBufconn(b *testing.B) {
	f := serve(b, Options{})
	f.put(b, "k", string(make([]byte, 256)))
	r := &pb.RangeRequest{Key: []byte("k")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.kv.Range(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}
