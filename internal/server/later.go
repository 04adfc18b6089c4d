package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What operators do to a cluster comes with the operating commands. Until then each call is refused by this error, which
// says so, and nothing is changed.

// MemberAdd is refused.
func (s *Membership) MemberAdd(context.Context, *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	return nil, ErrUnsupported
}

// MemberRemove is refused.
func (s *Membership) MemberRemove(context.Context, *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return nil, ErrUnsupported
}

// MemberUpdate is refused.
func (s *Membership) MemberUpdate(context.Context, *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	return nil, ErrUnsupported
}

// MemberPromote is refused.
func (s *Membership) MemberPromote(context.Context, *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	return nil, ErrUnsupported
}

// Defragment is refused.
func (s *Maintenance) Defragment(context.Context, *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	return nil, ErrUnsupported
}
