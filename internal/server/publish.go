package server

import (
	"context"
	"errors"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.uber.org/zap"

	"keelson/internal/replica/raftloop"
)

// publisher tells the cluster this member's name and client URLs, once at each start, until it is acknowledged.
type publisher struct {
	id         uint64
	name       string
	clientURLs []string
	proposer   *proposer
	loop       *raftloop.Loop
	logger     *zap.Logger
	// beginning is the end of the founders' entries where the log holds no others. It has to go on before anything is
	// published: else a power loss could leave a log that looks as if its member, which the others know, had lost it.
	beginning uint64
	// vetting, if there is one, has to be over before.
	vetting *vetting
	// published is closed when the cluster knows: from then on the member is ready.
	published chan struct{}
}

func newPublisher(m *Member, p *proposer) *publisher {
	return &publisher{
		id: m.data.id, name: m.cfg.Member.Name, clientURLs: m.cfg.Cluster.AdvertiseClient.StringSlice(),
		proposer: p, loop: m.loop, logger: m.deps.Logger, published: make(chan struct{}),
		beginning: m.data.beginning, vetting: m.workers.vetting,
	}
}

// ready waits until this member may tell of itself. It is false if that never comes.
func (p *publisher) ready(ctx context.Context) bool {
	if p.vetting != nil {
		select {
		case <-p.vetting.over:
		case <-ctx.Done():
			return false
		}
	}
	return p.beginning == 0 || p.loop.WaitApplied(ctx, p.beginning+1) == nil
}

func (p *publisher) run(ctx context.Context) {
	if !p.ready(ctx) {
		return
	}
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
