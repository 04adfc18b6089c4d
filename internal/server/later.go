package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What operators do to a cluster comes with the operating commands. Until then each call is refused by this error, which
// says so, and nothing is changed.

// Defragment is refused.
func (s *Maintenance) Defragment(context.Context, *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	return nil, ErrUnsupported
}
