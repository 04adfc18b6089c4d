package grpcproxy

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec for all that is taken apart
	"google.golang.org/grpc/mem"
)

// parcel is a message that goes on as the bytes it came in: what the proxy doesn't know of it passes too.
type parcel struct {
	bytes []byte
	// read takes from the bytes what the proxy has to know; nil where that is nothing. It may keep them.
	read func([]byte) error
}

// codec leaves parcels as they are; all other messages are for protobuf.
type codec struct{}

var _ encoding.CodecV2 = codec{}

var protobuf = encoding.GetCodecV2("proto")

// Name is the content subtype that members are told: application/grpc+proto.
func (codec) Name() string { return protobuf.Name() }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if p, ok := v.(*parcel); ok {
		return mem.BufferSlice{mem.SliceBuffer(p.bytes)}, nil
	}
	return protobuf.Marshal(v)
}

// Unmarshal copies a parcel: the buffers are grpc's again when it returns.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*parcel)
	if !ok {
		return protobuf.Unmarshal(data, v)
	}
	p.bytes = data.Materialize()
	if p.read == nil {
		return nil
	}
	return p.read(p.bytes)
}
