package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/state/alarm"
)

// Alarmer raises, clears and lists the alarms of the cluster.
type Alarmer struct {
	identity
	set      *alarm.Set
	proposer *proposer
	reads    *reads
	// turn has room for the one who raises an alarm of the member's own: others wait for it and find the alarm raised.
	turn chan struct{}
}

// Alarm raises or clears an alarm of any member, through the log, or lists those that are raised. A list goes without the
// log: a linearizable read shows the same.
func (s *Alarmer) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if r.Action == pb.AlarmRequest_GET {
		if err := s.reads.linearize(ctx); err != nil {
			return nil, err
		}
		return &pb.AlarmResponse{Header: s.headerPB(), Alarms: s.set.List(r.Alarm)}, nil
	}
	res, err := s.proposer.propose(ctx, &pb.InternalRaftRequest{Alarm: r})
	if err != nil {
		return nil, err
	}
	resp := res.Resp.(*pb.AlarmResponse)
	s.fillPB(resp.Header)
	return resp, nil
}

// Alarms lists the alarms that are raised, as this member knows them.
func (s *Alarmer) Alarms() []*pb.AlarmMember { return s.set.List(pb.AlarmType_NONE) }

// raiseOwn returns once an alarm of this member is raised, and tells whether this call did it. One that is raised already
// costs nothing.
func (s *Alarmer) raiseOwn(ctx context.Context, kind pb.AlarmType) (bool, error) {
	if s.set.Has(s.id, kind) {
		return false, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return false, ErrCanceled
	}
	if s.set.Has(s.id, kind) {
		return false, nil
	}
	err := s.raise(ctx, s.id, kind)
	return err == nil, err
}

// raise raises an alarm of any member.
func (s *Alarmer) raise(ctx context.Context, member uint64, kind pb.AlarmType) error {
	_, err := s.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: kind})
	return err
}
