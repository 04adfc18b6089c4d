package grpcproxy

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// caller is what decides, beside the request itself, how members answer a call. Calls of equal callers may share answers.
type caller struct {
	// token and authorization are the two fields in which an auth token may come.
	token, authorization string
	// leader is set where the call is to fail while the member knows no leader.
	leader bool
}

func callerOf(ctx context.Context) caller {
	md, _ := metadata.FromIncomingContext(ctx)
	first := func(key string) string {
		if v := md.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	return caller{
		token:         first(rpctypes.TokenFieldNameGRPC),
		authorization: first(rpctypes.TokenFieldNameSwagger),
		leader:        first(rpctypes.MetadataRequireLeaderKey) == rpctypes.MetadataHasLeader,
	}
}

// named tells whether the call bears a token, so that its answer is for its user alone.
func (c caller) named() bool { return c.token != "" || c.authorization != "" }

// outgoing is ctx for a call to the members as c.
func (c caller) outgoing(ctx context.Context) context.Context {
	var pairs []string
	if c.token != "" {
		pairs = append(pairs, rpctypes.TokenFieldNameGRPC, c.token)
	}
	if c.authorization != "" {
		pairs = append(pairs, rpctypes.TokenFieldNameSwagger, c.authorization)
	}
	if c.leader {
		pairs = append(pairs, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	}
	if len(pairs) == 0 {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(pairs...))
}

// statusOf makes err, which came out of the client library, the status that a member would have answered with.
func statusOf(err error) error {
	var known rpctypes.EtcdError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return status.Error(known.Code(), known.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return err
}

// passing tells of an error that another attempt, at another member, may not meet.
func passing(err error) bool {
	if errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
		return false
	}
	switch status.Code(statusOf(err)) {
	case codes.Unavailable, codes.Internal, codes.Canceled, codes.DeadlineExceeded:
		return true
	}
	return false
}
