package main

import (
	"context"
	"fmt"
	"net"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"keelson/internal/edge/rpc"
	"keelson/internal/kit/wire"
)

// serveFloor answers the same messages without doing anything, until the process is told to stop: with stock grpc and
// its codec, or behind this project's own edge. No server of these messages can use less CPU than its floor.
func serveFloor(kind, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	switch kind {
	case floorStock:
		s := grpc.NewServer()
		pb.RegisterKVServer(s, stockFloor{})
		return s.Serve(l)
	case floorOurs:
		kv := wire.AppendKeyValue(nil, wire.KeyValue{Key: keyOf(0), Value: someValue(), Create: 2, Mod: 2, Version: 1})
		return rpc.NewServer(edgeFloor{kv: kv}, rpc.Options{}).Serve(l)
	}
	return fmt.Errorf("bench: no floor %q", kind)
}

type stockFloor struct{ pb.UnimplementedKVServer }

func stockHeader() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1 << 60, MemberId: 1 << 61, Revision: 1 << 20, RaftTerm: 2}
}

func (stockFloor) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{Header: stockHeader()}, nil
}

func (stockFloor) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	kv := &mvccpb.KeyValue{Key: r.Key, Value: make([]byte, valueBytes), CreateRevision: 2, ModRevision: 2, Version: 1}
	return &pb.RangeResponse{Header: stockHeader(), Kvs: []*mvccpb.KeyValue{kv}, Count: 1}, nil
}

func (stockFloor) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	out := &pb.TxnResponse{Header: stockHeader(), Succeeded: true}
	for range r.Success {
		put := &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 1 << 20}}
		out.Responses = append(out.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: put}})
	}
	return out, nil
}

// edgeFloor is a member behind our edge that only has answers. The rest of rpc.Member is never called.
type edgeFloor struct {
	rpc.Member
	kv []byte
}

func (edgeFloor) HasLeader() bool   { return true }
func (edgeFloor) IsLearner() bool   { return false }
func (edgeFloor) AuthEnabled() bool { return false }

func (edgeFloor) Header() wire.Header {
	return wire.Header{ClusterID: 1 << 60, MemberID: 1 << 61, Revision: 1 << 20, Term: 2}
}

func (e edgeFloor) Put(context.Context, *pb.PutRequest) (*wire.PutResponse, error) {
	h := e.Header()
	return &wire.PutResponse{Header: &h}, nil
}

func (e edgeFloor) Range(context.Context, *pb.RangeRequest) (*wire.RangeResponse, error) {
	h := e.Header()
	return &wire.RangeResponse{Header: &h, KVs: [][]byte{e.kv}, Count: 1}, nil
}

func (e edgeFloor) Txn(_ context.Context, r *pb.TxnRequest) (*wire.TxnResponse, error) {
	h := e.Header()
	out := &wire.TxnResponse{Header: &h, Succeeded: true}
	for range r.Success {
		out.Responses = append(out.Responses, wire.ResponseOp{Put: &wire.PutResponse{Header: &wire.Header{Revision: h.Revision}}})
	}
	return out, nil
}
