package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/storage/schema"
)

// learnerReadyPercent is how much of the leader's log a learner must have to be promoted: etcd's.
const learnerReadyPercent = 90

// MemberPromote makes a learner a voter, at the leader wherever that is: it alone knows how far the learner is.
func (s *Membership) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	if err := s.auth.May(ctx, auth.Admin); err != nil {
		return nil, s.refused("promote", r.ID, err)
	}
	resp := &pb.MemberPromoteResponse{}
	var verdict error
	err := s.leader.ask(ctx,
		func(ctx context.Context) error {
			resp.Members, verdict = s.PromoteHere(ctx, r.ID)
			return unsettled(verdict, ErrNotLeader)
		},
		func(ctx context.Context, c Caller, urls []string) error {
			var all []PeerMember
			all, verdict = c.Promote(ctx, urls, r.ID, tokenOf(ctx))
			resp.Members = peersPB(all)
			if settled(verdict) {
				return nil
			}
			return verdict
		})
	if err == nil {
		err = verdict
	}
	if err != nil {
		return nil, s.refused("promote", r.ID, err)
	}
	s.promoted.Add(1)
	resp.Header = s.header()
	return resp, nil
}

// Promotions counts the learners that became voters because this member was asked.
func (s *Membership) Promotions() int64 { return s.promoted.Load() }

// unsettled gives err if it is why another member may have to be asked, nil if it is a verdict.
func unsettled(err, again error) error {
	if errors.Is(err, again) {
		return err
	}
	return nil
}

// settled tells whether what the leader answered is its verdict, and not why it could not be asked.
func settled(err error) bool {
	if err == nil {
		return true
	}
	for _, final := range []error{
		cluster.ErrIDNotFound, cluster.ErrMemberNotLearner, cluster.ErrLearnerNotReady, cluster.ErrNotEnoughStarted,
		auth.ErrDenied, auth.ErrUserEmpty, auth.ErrUserNotFound, auth.ErrInvalidToken,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// tokenOf gives the token that a call brought, for the leader that is asked on its behalf.
func tokenOf(ctx context.Context) string {
	if c := auth.From(ctx); c != nil && c.HasToken {
		return c.Token
	}
	return ""
}

// PromoteHere promotes a learner if this member leads; ErrNotLeader else.
func (s *Membership) PromoteHere(ctx context.Context, id uint64) ([]*pb.Member, error) {
	if err := s.auth.May(ctx, auth.Admin); err != nil {
		return nil, err
	}
	if err := s.caughtUp(ctx, id); err != nil {
		return nil, err
	}
	if err := s.guard.promote(s.cluster.State()); err != nil {
		return nil, err
	}
	data, err := json.Marshal(cluster.Context{Member: schema.Member{ID: id}, IsPromote: true})
	if err != nil {
		return nil, fmt.Errorf("server: encode the promotion of member %x: %w", id, err)
	}
	st, err := s.change(ctx, &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(id), Context: data})
	if err != nil {
		return nil, err
	}
	return membersPB(st), nil
}

// caughtUp tells, on the leader, whether a member has enough of the log. A voter passes: that it is none to promote is
// found later, as in etcd.
func (s *Membership) caughtUp(ctx context.Context, id uint64) error {
	if err := s.loop.WaitApplied(ctx, s.loop.Status().Commit); err != nil {
		return explainRead(err, ErrTimeoutWaitAppliedIndex)
	}
	progress := s.loop.Progress()
	if progress == nil {
		return ErrNotLeader
	}
	theirs, ok := progress[id]
	if !ok {
		return cluster.ErrIDNotFound
	}
	ours := progress[s.id].Match
	if theirs.Match*100 < ours*learnerReadyPercent {
		return fmt.Errorf("%w: it has %d entries of the leader's %d", cluster.ErrLearnerNotReady, theirs.Match, ours)
	}
	return nil
}

func peersPB(all []PeerMember) []*pb.Member {
	out := make([]*pb.Member, len(all))
	for i, m := range all {
		out[i] = &pb.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
	}
	return out
}
