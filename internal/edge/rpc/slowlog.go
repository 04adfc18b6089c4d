package rpc

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/wire"
)

// slowLog writes what an unary request took: a warning where it took longer than warn, and every one at debug level.
// Message and fields are those that readers of etcd's log look for. Values never appear in it.
type slowLog struct {
	lg   *zap.Logger
	warn time.Duration
}

func (l *slowLog) wants(took time.Duration) bool {
	return took > l.warn || l.lg.Core().Enabled(zapcore.DebugLevel)
}

func (l *slowLog) log(ctx context.Context, name string, start time.Time, took time.Duration, req, resp any) {
	level := zapcore.WarnLevel
	if l.lg.Core().Enabled(zapcore.DebugLevel) {
		level = zapcore.DebugLevel
	}
	remote := "No remote client info."
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	s := statsOf(req, resp)
	l.lg.Log(level, "request stats",
		zap.Time("start time", start),
		zap.Duration("time spent", took),
		zap.String("remote", remote),
		zap.String("response type", name),
		zap.Int64("request count", s.requests),
		zap.Int("request size", s.requestBytes),
		zap.Int64("response count", s.responses),
		zap.Int("response size", s.responseBytes),
		zap.String("request content", s.content),
	)
}

// stats describes one request and its answer; -1 stands for what is not counted.
type stats struct {
	requests, responses         int64
	requestBytes, responseBytes int
	content                     string
}

// statsOf describes the requests of KV. The answer may be a typed nil: the request failed.
func statsOf(req, resp any) stats {
	switch r := req.(type) {
	case *pb.RangeRequest:
		s := stats{requestBytes: proto.Size(r), content: r.String()}
		if a, _ := resp.(*wire.RangeResponse); a != nil {
			s.responses, s.responseBytes = a.Count, a.Size()
		}
		return s
	case *pb.PutRequest:
		s := stats{requests: 1, requestBytes: proto.Size(r), content: pb.NewLoggablePutRequest(r).String()}
		if a, _ := resp.(*wire.PutResponse); a != nil {
			s.responseBytes = a.Size()
		}
		return s
	case *pb.DeleteRangeRequest:
		s := stats{requestBytes: proto.Size(r), content: r.String()}
		if a, _ := resp.(*wire.DeleteRangeResponse); a != nil {
			s.responses, s.responseBytes = a.Deleted, a.Size()
		}
		return s
	case *pb.TxnRequest:
		return txnStats(r, resp)
	}
	return stats{requests: -1, requestBytes: -1, responses: -1, responseBytes: -1}
}

// txnStats counts the branch that was taken.
func txnStats(r *pb.TxnRequest, resp any) (s stats) {
	a, _ := resp.(*wire.TxnResponse)
	if a == nil {
		return s
	}
	ops := r.Failure
	if a.Succeeded {
		ops = r.Success
	}
	s.requests = int64(len(ops))
	for _, op := range ops {
		s.requestBytes += proto.Size(op)
	}
	s.content = pb.NewLoggableTxnRequest(r).String()
	s.responseBytes = a.Size()
	return s
}
