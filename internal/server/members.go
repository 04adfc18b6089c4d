package server

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/internal/kit/clock"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
)

// Membership tells who belongs to the cluster, and changes it. A change is checked here as far as it can be, against the
// membership as a linearizable read shows it, so that what can't take effect is never proposed; apply checks again.
type Membership struct {
	identity
	cluster  *cluster.Cluster
	reads    *reads
	proposer *proposer
	leader   *leaderFinder
	auth     *authority
	guard    reconfigGuard
	clock    clock.Clock
	logger   *zap.Logger
	// learnersMax is how many learners the cluster may have.
	learnersMax int
	// turn holds a token while nobody changes the membership through this member: raft takes one change at a time.
	turn chan struct{}
	// promoted counts the promotions that were asked of this member and made.
	promoted atomic.Int64
}

func newMembership(m *Member, who identity, p *proposer, r *reads, find *leaderFinder) *Membership {
	s := &Membership{
		identity: who, cluster: m.data.state.Cluster, reads: r, proposer: p, leader: find, auth: p.auth,
		guard: reconfigGuard{strict: m.cfg.Cluster.StrictReconfig, id: who.id, clock: m.deps.Clock, activeSince: m.network.ActiveSince},
		clock: m.deps.Clock, logger: m.deps.Logger, learnersMax: m.cfg.Cluster.MaxLearners, turn: make(chan struct{}, 1),
	}
	s.turn <- struct{}{}
	return s
}

// MemberList lists the members by ID.
func (s *Membership) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if r.Linearizable {
		if err := s.reads.linearize(ctx); err != nil {
			return nil, err
		}
	}
	return &pb.MemberListResponse{Header: s.header(), Members: membersPB(s.cluster.State())}, nil
}

// MemberAdd adds a voter or a learner. Its ID follows from its peer URLs and the time, so that the same URLs make another
// member after a removal.
func (s *Membership) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	urls, err := checkPeerURLs(r.PeerURLs)
	if err != nil {
		return nil, s.refused("add", 0, err)
	}
	if err := s.auth.May(ctx, auth.Admin); err != nil {
		return nil, s.refused("add", 0, err)
	}
	slices.Sort(urls)
	m := schema.Member{ID: cluster.MemberID(urls, strconv.FormatInt(s.clock.Now().Unix(), 10)), PeerURLs: urls, IsLearner: r.IsLearner}
	if err := s.guard.add(s.cluster.State(), r.IsLearner); err != nil {
		return nil, s.refused("add", m.ID, err)
	}
	cc := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: &m.ID, Context: schema.EncodeMember(m)}
	if r.IsLearner {
		cc.Type = raftpb.ConfChangeAddLearnerNode.Enum()
	}
	st, err := s.change(ctx, cc)
	if err != nil {
		return nil, s.refused("add", m.ID, err)
	}
	return &pb.MemberAddResponse{
		Header: s.header(), Member: &pb.Member{ID: m.ID, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner}, Members: membersPB(st),
	}, nil
}

// MemberRemove removes a member for good. A leader that is to go hands over first.
func (s *Membership) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	if err := s.auth.May(ctx, auth.Admin); err != nil {
		return nil, s.refused("remove", r.ID, err)
	}
	if err := s.guard.remove(s.cluster.State(), r.ID); err != nil {
		return nil, s.refused("remove", r.ID, err)
	}
	st, err := s.change(ctx, &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(r.ID)})
	if err != nil {
		return nil, s.refused("remove", r.ID, err)
	}
	return &pb.MemberRemoveResponse{Header: s.header(), Members: membersPB(st)}, nil
}

// MemberUpdate replaces a member's peer URLs.
func (s *Membership) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	urls, err := checkPeerURLs(r.PeerURLs)
	if err != nil {
		return nil, s.refused("update", r.ID, err)
	}
	if err := s.auth.May(ctx, auth.Admin); err != nil {
		return nil, s.refused("update", r.ID, err)
	}
	// Members of 3.6 replace all that raft knows of the member by what the change carries: without its role a learner
	// would look like a voter there.
	have, _ := s.cluster.State().Member(r.ID)
	m := schema.Member{ID: r.ID, PeerURLs: urls, IsLearner: have.IsLearner}
	st, err := s.change(ctx, &raftpb.ConfChange{Type: raftpb.ConfChangeUpdateNode.Enum(), NodeId: &m.ID, Context: schema.EncodeMember(m)})
	if err != nil {
		return nil, s.refused("update", r.ID, err)
	}
	return &pb.MemberUpdateResponse{Header: s.header(), Members: membersPB(st)}, nil
}

// change checks a change against the membership as it is now, then runs it through the log.
func (s *Membership) change(ctx context.Context, cc *raftpb.ConfChange) (*cluster.State, error) {
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, s.proposer.explain(ctx.Err(), s.clock.Now())
	case <-s.loop.Done():
		return nil, ErrStopped
	}
	ch, err := cluster.DecodeChange(cc)
	if err != nil {
		return nil, err
	}
	if err := s.reads.linearize(ctx); err != nil {
		return nil, err
	}
	if err := s.cluster.State().Validate(ch, s.learnersMax); err != nil {
		return nil, err
	}
	st, err := s.proposer.proposeConf(ctx, cc)
	if err != nil {
		return nil, err
	}
	s.logger.Info("applied a configuration change through raft",
		zap.Stringer("raft-conf-change", cc.GetType()), zap.String("raft-conf-change-node-id", hexID(cc.GetNodeId())))
	return st, nil
}

// refused logs why a change was not made: the answer has etcd's text, which says less.
func (s *Membership) refused(what string, id uint64, err error) error {
	s.logger.Warn("rejecting member "+what+" request", zap.String("requested-member-id", hexID(id)), zap.Error(err))
	return err
}

// header has no revision: as in etcd, answers about the membership are not about the keys.
func (s *Membership) header() *pb.ResponseHeader {
	h := &pb.ResponseHeader{}
	s.fillPB(h)
	return h
}

func membersPB(st *cluster.State) []*pb.Member {
	all := make([]*pb.Member, len(st.Members))
	for i, m := range st.Members {
		all[i] = &pb.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
	}
	return all
}
