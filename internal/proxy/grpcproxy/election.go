package grpcproxy

import (
	"context"

	"google.golang.org/grpc"

	"keelson/internal/kit/electionpb"
)

// electionService passes v3electionpb.Election on. Elections are keys, in the namespace like locks.
type electionService struct {
	electionpb.UnsafeElectionServer
	to electionpb.ElectionClient
	space
}

func (s *electionService) Campaign(ctx context.Context, r *electionpb.CampaignRequest) (*electionpb.CampaignResponse, error) {
	resp, err := s.to.Campaign(ctx, &electionpb.CampaignRequest{Name: s.into(r.Name), Lease: r.Lease, Value: r.Value})
	if err != nil {
		return nil, err
	}
	if l := resp.Leader; l != nil {
		l.Name, l.Key = s.outOf(l.Name), s.outOf(l.Key)
	}
	return resp, nil
}

func (s *electionService) Proclaim(ctx context.Context, r *electionpb.ProclaimRequest) (*electionpb.ProclaimResponse, error) {
	return s.to.Proclaim(ctx, &electionpb.ProclaimRequest{Leader: s.leader(r.Leader), Value: r.Value})
}

func (s *electionService) Resign(ctx context.Context, r *electionpb.ResignRequest) (*electionpb.ResignResponse, error) {
	return s.to.Resign(ctx, &electionpb.ResignRequest{Leader: s.leader(r.Leader)})
}

func (s *electionService) Leader(ctx context.Context, r *electionpb.LeaderRequest) (*electionpb.LeaderResponse, error) {
	return s.shown(s.to.Leader(ctx, &electionpb.LeaderRequest{Name: s.into(r.Name)}))
}

func (s *electionService) Observe(r *electionpb.LeaderRequest, to grpc.ServerStreamingServer[electionpb.LeaderResponse]) error {
	ctx, cancel := context.WithCancel(to.Context())
	defer cancel()
	from, err := s.to.Observe(ctx, &electionpb.LeaderRequest{Name: s.into(r.Name)})
	if err != nil {
		return err
	}
	return relay(func() (*electionpb.LeaderResponse, error) { return s.shown(from.Recv()) }, to.Send)
}

// leader is what a client calls its leadership by, as the members know it.
func (s *electionService) leader(l *electionpb.LeaderKey) *electionpb.LeaderKey {
	if l == nil {
		return nil
	}
	return &electionpb.LeaderKey{Name: s.into(l.Name), Key: s.into(l.Key), Rev: l.Rev, Lease: l.Lease}
}

// shown is an answer as the client knows it.
func (s *electionService) shown(resp *electionpb.LeaderResponse, err error) (*electionpb.LeaderResponse, error) {
	if err == nil && resp.Kv != nil {
		resp.Kv.Key = s.outOf(resp.Kv.Key)
	}
	return resp, err
}
