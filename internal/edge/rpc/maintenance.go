package rpc

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"keelson/internal/kit/clock"
)

// maintenanceService serves etcdserverpb.Maintenance.
type maintenanceService struct {
	pb.UnsafeMaintenanceServer
	member Maintenance
	clock  clock.Clock
	lg     *zap.Logger
}

func (s *maintenanceService) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return s.member.Alarm(ctx, r)
}

func (s *maintenanceService) Status(ctx context.Context, r *pb.StatusRequest) (*pb.StatusResponse, error) {
	return s.member.Status(ctx, r)
}

func (s *maintenanceService) Defragment(ctx context.Context, r *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	return s.member.Defragment(ctx, r)
}

func (s *maintenanceService) Hash(ctx context.Context, r *pb.HashRequest) (*pb.HashResponse, error) {
	return s.member.Hash(ctx, r)
}

func (s *maintenanceService) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	return s.member.HashKV(ctx, r)
}

func (s *maintenanceService) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	return s.member.MoveLeader(ctx, r)
}

func (s *maintenanceService) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	return s.member.Downgrade(ctx, r)
}

// snapshotChunkBytes is how much of the store one message of a snapshot carries: eight pages, as etcd sends, so that
// progress shows and a slow client holds little.
const snapshotChunkBytes = 32 << 10

// Snapshot streams the store, and after it a message with its SHA-256.
func (s *maintenanceService) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) error {
	start := s.clock.Now()
	w := &snapshotWriter{stream: stream, sum: sha256.New()}
	err := s.member.Snapshot(stream.Context(), func(size int64, version string) io.Writer {
		w.size, w.version = size, version
		s.lg.Info("sending a database snapshot to a client", zap.Int64("total-bytes", size), zap.String("storage-version", version))
		return w
	})
	if err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	s.lg.Info("sent a database snapshot to a client", zap.Int64("total-bytes", w.sent),
		zap.Duration("took", s.clock.Now().Sub(start)), zap.String("storage-version", w.version))
	return nil
}

// snapshotWriter cuts what is written to it into messages.
type snapshotWriter struct {
	stream     grpc.ServerStream
	version    string
	size, sent int64
	sum        hash.Hash
	chunk      []byte // not yet sent; less than snapshotChunkBytes
}

func (w *snapshotWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(len(p), snapshotChunkBytes-len(w.chunk))
		w.chunk = append(w.chunk, p[:take]...)
		p = p[take:]
		if len(w.chunk) == snapshotChunkBytes {
			if err := w.flush(); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

func (w *snapshotWriter) flush() error {
	w.sum.Write(w.chunk)
	w.sent += int64(len(w.chunk))
	err := w.stream.SendMsg(&pb.SnapshotResponse{RemainingBytes: uint64(max(w.size-w.sent, 0)), Blob: w.chunk, Version: w.version})
	// SendMsg has encoded the message: the chunk may be filled again.
	w.chunk = w.chunk[:0]
	return err
}

// finish sends what is left, then the checksum.
func (w *snapshotWriter) finish() error {
	if len(w.chunk) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.sent != w.size {
		return fmt.Errorf("rpc: snapshot: %d bytes were announced and %d sent", w.size, w.sent)
	}
	return w.stream.SendMsg(&pb.SnapshotResponse{Blob: w.sum.Sum(nil), Version: w.version})
}
