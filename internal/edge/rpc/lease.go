package rpc

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"keelson/internal/kit/wire"
	"keelson/internal/state/lease"
)

// leaseService serves etcdserverpb.Lease.
type leaseService struct {
	pb.UnsafeLeaseServer
	lease   Lease
	state   State
	metrics *metrics
	lg      *zap.Logger
}

func (s *leaseService) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return s.lease.LeaseGrant(ctx, r)
}

func (s *leaseService) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return s.lease.LeaseRevoke(ctx, r)
}

// LeaseTimeToLive answers for a lease that is not there with a time to live of -1: that is no error.
func (s *leaseService) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	resp, err := s.lease.LeaseTimeToLive(ctx, r)
	if errors.Is(err, lease.ErrNotFound) {
		return &pb.LeaseTimeToLiveResponse{Header: pbHeader(s.state.Header()), ID: r.ID, TTL: -1}, nil
	}
	return resp, err
}

func (s *leaseService) LeaseLeases(ctx context.Context, r *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return s.lease.LeaseLeases(ctx, r)
}

// LeaseKeepAlive renews one lease for each message. Its loop runs in a goroutine of its own, so that the handler can
// end while a receive waits; grpc ends that receive when the handler has returned.
func (s *leaseService) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	ended := make(chan error, 1)
	go func() { ended <- s.keepAlive(stream) }()
	select {
	case err := <-ended:
		return err
	case <-stream.Context().Done():
		return context.Cause(stream.Context())
	}
}

func (s *leaseService) keepAlive(stream grpc.ServerStream) error {
	ctx := stream.Context()
	for {
		r := new(pb.LeaseKeepAliveRequest)
		if err := stream.RecvMsg(r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			s.failed(ctx, "receive", err)
			return err
		}
		// The header is taken before the renewal: its revision is never later than one at which the lease was
		// still there.
		resp := &wire.LeaseKeepAliveResponse{Header: s.state.Header(), ID: r.ID}
		ttl, err := s.lease.LeaseRenew(ctx, r.ID)
		switch {
		case errors.Is(err, lease.ErrNotFound):
			ttl = 0
		case err != nil:
			return err
		}
		resp.TTL = ttl
		if err := stream.SendMsg(resp); err != nil {
			s.failed(ctx, "send", err)
			return err
		}
	}
}

func (s *leaseService) failed(ctx context.Context, way string, err error) {
	if clientGone(ctx, err) {
		s.lg.Debug("a lease keep-alive stream ended", zap.String("at", way), zap.Error(err))
		return
	}
	s.lg.Warn("a lease keep-alive stream failed", zap.String("at", way), zap.Error(err))
	s.metrics.streamFailures.WithLabelValues(way, "lease-keepalive").Inc()
}

func pbHeader(h wire.Header) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: h.ClusterID, MemberId: h.MemberID, Revision: h.Revision, RaftTerm: h.Term}
}
