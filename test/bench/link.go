package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// frame is an encoded request; answer takes an encoded response. The generator shares its cores with the server, so
// it decodes nothing that it does not need: with clientv3 it would use more CPU than the servers it measures.
type frame []byte

type answer struct {
	bytes int
	keep  bool // whether body is wanted
	body  []byte
}

// frames is the codec of both: what is sent is bytes already, what comes is measured and dropped.
type frames struct{}

func (frames) Name() string { return "proto" }

func (frames) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(frame)
	if !ok {
		return nil, fmt.Errorf("bench: send %T: not a frame", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(f)}, nil
}

func (frames) Unmarshal(data mem.BufferSlice, v any) error {
	a, ok := v.(*answer)
	if !ok {
		return fmt.Errorf("bench: receive %T: not an answer", v)
	}
	a.bytes = data.Len()
	if a.keep {
		a.body = data.Materialize()
	}
	return nil
}

// links are connections to one server, each with a socket of its own.
type links []*grpc.ClientConn

// receiveBytesMax is the largest answer taken: a list of 10,000 keys has 3 MB.
const receiveBytesMax = 64 << 20

// dial makes connections, each with a token of its own where there are users.
func (p *process) dial(n int) (links, error) {
	if !p.auth {
		return p.connect(n)
	}
	if err := p.takeTokens(n); err != nil {
		return nil, err
	}
	var l links
	for _, token := range p.tokens[:n] {
		one, err := p.connect(1, grpc.WithPerRPCCredentials(token))
		if err != nil {
			l.close()
			return nil, err
		}
		l = append(l, one...)
	}
	return l, nil
}

// connect makes connections that try again at once where nobody listens yet: how long a start takes is measured.
func (p *process) connect(n int, more ...grpc.DialOption) (links, error) {
	creds := insecure.NewCredentials()
	if p.tls != nil {
		creds = credentials.NewTLS(p.tls)
	}
	var l links
	for range n {
		c, err := grpc.NewClient("passthrough:///"+p.addr, append(more, grpc.WithTransportCredentials(creds),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: readyStep, Multiplier: 1, MaxDelay: readyStep}, MinConnectTimeout: callTime}),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frames{}), grpc.MaxCallRecvMsgSize(receiveBytesMax)))...)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("bench: dial %s: %w", p.addr, err)
		}
		l = append(l, c)
	}
	return l, nil
}

// grpcConn is one of them, as a load uses it.
type grpcConn struct{ *grpc.ClientConn }

func (c grpcConn) call(ctx context.Context, r request) error {
	var a answer
	return c.Invoke(ctx, r.method, r.body, &a)
}

func (l links) close() {
	for _, c := range l {
		_ = c.Close() // nothing is left to lose
	}
}

// call sends one request and decodes the answer.
func (l links) call(ctx context.Context, method string, req, resp proto.Message) error {
	b, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	a := answer{keep: true}
	if err := l[0].Invoke(ctx, method, frame(b), &a); err != nil {
		return err
	}
	return proto.Unmarshal(a.body, resp)
}

// watchStream is one stream of watchers.
type watchStream struct {
	grpc.ClientStream
	cancel context.CancelFunc
}

func openWatch(ctx context.Context, c *grpc.ClientConn) (*watchStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, pb.Watch_Watch_FullMethodName)
	if err != nil {
		cancel()
		return nil, err
	}
	return &watchStream{s, cancel}, nil
}

// watch asks for one more watcher and waits until it is there. No event may be due before.
func (s *watchStream) watch(r *pb.WatchCreateRequest) error {
	if err := s.ask(r); err != nil {
		return err
	}
	a := answer{keep: true}
	if err := s.RecvMsg(&a); err != nil {
		return err
	}
	var resp pb.WatchResponse
	if err := proto.Unmarshal(a.body, &resp); err != nil {
		return err
	}
	if !resp.Created || resp.Canceled {
		return fmt.Errorf("bench: the server refused a watcher: %s", resp.CancelReason)
	}
	return nil
}

func (s *watchStream) ask(r *pb.WatchCreateRequest) error {
	b, err := proto.Marshal(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	if err != nil {
		return err
	}
	return s.SendMsg(frame(b))
}

// Field numbers of WatchResponse, Event and KeyValue.
const (
	fieldWatchID = 2
	fieldEvents  = 11
	fieldKV      = 2
	fieldModRev  = 3
)

var errTorn = errors.New("bench: a watch answer does not parse")

// eventScan counts events, and holds those of each watcher to the order of their revisions.
type eventScan struct {
	mu     sync.Mutex // guards the rest: the stream's reader adds, others look
	events int
	last   map[uint64]uint64 // newest revision by watcher
	err    error             // what ended the reading
}

func (s *eventScan) seen() (events int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events, s.err
}

func (s *eventScan) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// add takes one encoded WatchResponse. Its fields come in ascending order.
func (s *eventScan) add(body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := uint64(0)
	return fields(body, func(n protowire.Number, event []byte, v uint64) error {
		switch n {
		case fieldWatchID:
			id = v
		case fieldEvents:
			s.events++
			return fields(event, func(n protowire.Number, kv []byte, _ uint64) error {
				if n != fieldKV {
					return nil
				}
				return fields(kv, func(n protowire.Number, _ []byte, v uint64) error {
					if n != fieldModRev {
						return nil
					}
					return s.follow(id, v)
				})
			})
		}
		return nil
	})
}

func (s *eventScan) follow(id, rev uint64) error {
	if rev < s.last[id] {
		return fmt.Errorf("bench: watcher %d got an event of revision %d after %d", id, rev, s.last[id])
	}
	s.last[id] = rev
	return nil
}

// fields calls f with every field of a message: its bytes or its number.
func fields(b []byte, f func(n protowire.Number, bytes []byte, v uint64) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return errTorn
		}
		b = b[size:]
		var bytes []byte
		var v uint64
		switch kind {
		case protowire.BytesType:
			bytes, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(b)
		default:
			size = protowire.ConsumeFieldValue(n, kind, b)
		}
		if size < 0 {
			return errTorn
		}
		b = b[size:]
		if err := f(n, bytes, v); err != nil {
			return err
		}
	}
	return nil
}
