package grpcproxy

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// maintenanceService passes etcdserverpb.Maintenance on to some member. Which one is the balancer's choice: who asks for a
// certain member's status has to ask that one itself.
type maintenanceService struct {
	pb.UnsafeMaintenanceServer
	to pb.MaintenanceClient
}

// Snapshot passes a member's snapshot on as it comes: what the client does not read is not read from the member either.
func (s *maintenanceService) Snapshot(r *pb.SnapshotRequest, to grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	ctx, cancel := context.WithCancel(to.Context())
	defer cancel()
	from, err := s.to.Snapshot(ctx, r)
	if err != nil {
		return err
	}
	return relay(from.Recv, to.Send)
}

// relay passes the messages of a stream on until it ends.
func relay[T any](recv func() (T, error), send func(T) error) error {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = send(m)
		}
		if err != nil {
			return err
		}
	}
}

func (s *maintenanceService) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return s.to.Alarm(ctx, r)
}

func (s *maintenanceService) Status(ctx context.Context, r *pb.StatusRequest) (*pb.StatusResponse, error) {
	return s.to.Status(ctx, r)
}

func (s *maintenanceService) Defragment(ctx context.Context, r *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	return s.to.Defragment(ctx, r)
}

func (s *maintenanceService) Hash(ctx context.Context, r *pb.HashRequest) (*pb.HashResponse, error) {
	return s.to.Hash(ctx, r)
}

func (s *maintenanceService) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	return s.to.HashKV(ctx, r)
}

func (s *maintenanceService) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	return s.to.MoveLeader(ctx, r)
}

func (s *maintenanceService) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	return s.to.Downgrade(ctx, r)
}
