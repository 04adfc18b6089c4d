package server

import (
	"context"
	"errors"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.uber.org/zap"
)

// publisher tells the cluster this member's name and client URLs, once at each start, until it is acknowledged.
type publisher struct {
	id         uint64
	name       string
	clientURLs []string
	proposer   *proposer
	logger     *zap.Logger
	// published is closed when the cluster knows: from then on the member is ready.
	published chan struct{}
}

func (p *publisher) run(ctx context.Context) {
	req := &pb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
		Member_ID:        p.id,
		MemberAttributes: &membershippb.Attributes{Name: p.name, ClientUrls: p.clientURLs},
	}}
	for ctx.Err() == nil {
		_, err := p.proposer.propose(ctx, req)
		if err == nil {
			p.logger.Info("published local member to cluster through raft",
				zap.String("local-member-name", p.name), zap.Strings("advertise-client-urls", p.clientURLs))
			close(p.published)
			return
		}
		if errors.Is(err, ErrStopped) {
			return
		}
		if ctx.Err() == nil {
			p.logger.Warn("failed to publish local member to cluster through raft", zap.Error(err))
		}
	}
}

// sameURLs tells whether two lists hold the same URLs in any order.
func sameURLs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
