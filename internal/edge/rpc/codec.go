package rpc

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/wire"
)

// codec turns messages into bytes and back for every service of the server: the hot ones by package wire, the others
// by protobuf. It counts the bytes of both.
type codec struct {
	pool           *buffers
	sent, received prometheus.Counter
}

var _ encoding.CodecV2 = (*codec)(nil)

// answer is a message that wire encodes: its length is known before it is written.
type answer interface {
	Size() int
	AppendTo(dst []byte) []byte
}

// Name is the content subtype that clients ask for: application/grpc+proto.
func (c *codec) Name() string { return "proto" }

// Marshal encodes v into one buffer, which grpc gives back to the pool once it is on the wire. Gathering the stored
// key-values without a copy loses below some kilobytes a value: each would cost two buffers of their own.
func (c *codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case answer:
		n := m.Size()
		c.sent.Add(float64(n))
		if mem.IsBelowBufferPoolingThreshold(n) || n > bufferBytesMax {
			return mem.BufferSlice{mem.SliceBuffer(m.AppendTo(make([]byte, 0, n)))}, nil
		}
		b := c.pool.Get(n)
		*b = m.AppendTo((*b)[:0])
		return mem.BufferSlice{mem.NewBuffer(b, c.pool)}, nil
	case proto.Message:
		out, err := proto.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("rpc: encode %T: %w", v, err)
		}
		c.sent.Add(float64(len(out)))
		return mem.BufferSlice{mem.SliceBuffer(out)}, nil
	}
	return nil, fmt.Errorf("rpc: encode %T: not a message", v)
}

// Unmarshal decodes data into v. The receive buffer goes back to its pool when Unmarshal returns, so the hot messages
// alias one copy of their own.
func (c *codec) Unmarshal(data mem.BufferSlice, v any) error {
	c.received.Add(float64(data.Len()))
	switch m := v.(type) {
	case *pb.PutRequest:
		return wire.DecodePutRequest(data.Materialize(), m)
	case *pb.RangeRequest:
		return wire.DecodeRangeRequest(data.Materialize(), m)
	case *pb.TxnRequest:
		return wire.DecodeTxnRequest(data.Materialize(), m)
	case *pb.DeleteRangeRequest:
		return wire.DecodeDeleteRangeRequest(data.Materialize(), m)
	}
	buf := data.MaterializeToBuffer(c.pool)
	defer buf.Free()
	switch m := v.(type) {
	case *pb.LeaseKeepAliveRequest:
		return wire.DecodeLeaseKeepAliveRequest(buf.ReadOnlyData(), m)
	case proto.Message:
		return proto.Unmarshal(buf.ReadOnlyData(), m)
	}
	return fmt.Errorf("rpc: decode %T: not a message", v)
}
