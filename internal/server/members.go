package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/state/cluster"
)

// Membership tells who belongs to the cluster.
type Membership struct {
	identity
	cluster *cluster.Cluster
	reads   *reads
}

// MemberList lists the members by ID.
func (s *Membership) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if r.Linearizable {
		if err := s.reads.linearize(ctx); err != nil {
			return nil, err
		}
	}
	// As in etcd, answers about the membership carry no revision of the keys.
	resp := &pb.MemberListResponse{Header: &pb.ResponseHeader{}}
	s.fillPB(resp.Header)
	for _, m := range s.cluster.State().Members {
		resp.Members = append(resp.Members, &pb.Member{
			ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		})
	}
	return resp, nil
}
