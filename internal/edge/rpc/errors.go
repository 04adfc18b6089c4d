package rpc

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/internal/server"
	"keelson/internal/state/auth"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/watch"
)

// row says how one sentinel looks on the wire.
type row struct{ err, wire error }

// table lists every sentinel that a request can end with. Clients match on the text, so a text is part of the
// protocol: the golden test holds them.
var table = [...]row{
	{server.ErrEmptyKey, rpctypes.ErrGRPCEmptyKey},
	{server.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{server.ErrValueProvided, rpctypes.ErrGRPCValueProvided},
	{server.ErrLeaseProvided, rpctypes.ErrGRPCLeaseProvided},
	{server.ErrTooManyOps, rpctypes.ErrGRPCTooManyOps},
	{server.ErrDuplicateKey, rpctypes.ErrGRPCDuplicateKey},
	{server.ErrInvalidSortOption, rpctypes.ErrGRPCInvalidSortOption},
	{server.ErrRequestTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{server.ErrTooManyRequests, rpctypes.ErrGRPCRequestTooManyRequests},
	{server.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{server.ErrCorrupt, rpctypes.ErrGRPCCorrupt},
	{server.ErrNoLeader, rpctypes.ErrGRPCNoLeader},
	{server.ErrNotLeader, rpctypes.ErrGRPCNotLeader},
	{server.ErrBadTransferee, rpctypes.ErrGRPCBadLeaderTransferee},
	{server.ErrLeaderChanged, rpctypes.ErrGRPCLeaderChanged},
	{server.ErrStopped, rpctypes.ErrGRPCStopped},
	{server.ErrCanceled, rpctypes.ErrGRPCCanceled},
	{server.ErrTimeout, rpctypes.ErrGRPCTimeout},
	{server.ErrTimeoutLeaderFail, rpctypes.ErrGRPCTimeoutDueToLeaderFail},
	{server.ErrTimeoutConnLost, rpctypes.ErrGRPCTimeoutDueToConnectionLost},
	{server.ErrTimeoutWaitAppliedIndex, rpctypes.ErrGRPCTimeoutWaitAppliedIndex},
	{server.ErrUnhealthy, rpctypes.ErrGRPCUnhealthy},
	{server.ErrBadPeerURLs, rpctypes.ErrGRPCMemberBadURLs},
	{server.ErrLearnerUnsupported, rpctypes.ErrGRPCNotSupportedForLearner},
	{server.ErrStreamSorted, status.Error(codes.Unimplemented, server.ErrStreamSorted.Error())},
	{server.ErrStreamFiltered, status.Error(codes.Unimplemented, server.ErrStreamFiltered.Error())},
	{server.ErrDowngradeVersionFormat, rpctypes.ErrGRPCWrongDowngradeVersionFormat},
	{server.ErrInvalidDowngradeTarget, rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
	{server.ErrDowngradeInProcess, rpctypes.ErrGRPCDowngradeInProcess},
	{server.ErrNoInflightDowngrade, rpctypes.ErrGRPCNoInflightDowngrade},
	{server.ErrClusterVersionUnavailable, rpctypes.ErrGRPCClusterVersionUnavailable},

	{mvcc.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{mvcc.ErrFutureRev, rpctypes.ErrGRPCFutureRev},

	{auth.ErrRootUserMissing, rpctypes.ErrGRPCRootUserNotExist},
	{auth.ErrRootRoleMissing, rpctypes.ErrGRPCRootRoleNotExist},
	{auth.ErrUserExists, rpctypes.ErrGRPCUserAlreadyExist},
	{auth.ErrUserEmpty, rpctypes.ErrGRPCUserEmpty},
	{auth.ErrUserNotFound, rpctypes.ErrGRPCUserNotFound},
	{auth.ErrRoleExists, rpctypes.ErrGRPCRoleAlreadyExist},
	{auth.ErrRoleNotFound, rpctypes.ErrGRPCRoleNotFound},
	{auth.ErrRoleEmpty, rpctypes.ErrGRPCRoleEmpty},
	{auth.ErrFailed, rpctypes.ErrGRPCAuthFailed},
	{auth.ErrPermissionNotGiven, rpctypes.ErrGRPCPermissionNotGiven},
	{auth.ErrDenied, rpctypes.ErrGRPCPermissionDenied},
	{auth.ErrRoleNotGranted, rpctypes.ErrGRPCRoleNotGranted},
	{auth.ErrPermissionNotGranted, rpctypes.ErrGRPCPermissionNotGranted},
	{auth.ErrNotEnabled, rpctypes.ErrGRPCAuthNotEnabled},
	{auth.ErrInvalidToken, rpctypes.ErrGRPCInvalidAuthToken},
	{auth.ErrInvalidManagement, rpctypes.ErrGRPCInvalidAuthMgmt},
	{auth.ErrOldRevision, rpctypes.ErrGRPCAuthOldRevision},
	{auth.ErrNoPasswordUser, status.Error(codes.Unknown, auth.ErrNoPasswordUser.Error())},

	{watch.ErrClosed, rpctypes.ErrGRPCStopped},

	{lease.ErrNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{lease.ErrExists, rpctypes.ErrGRPCLeaseExist},
	{lease.ErrTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},

	{cluster.ErrIDRemoved, rpctypes.ErrGRPCMemberNotFound},
	{cluster.ErrIDNotFound, rpctypes.ErrGRPCMemberNotFound},
	{cluster.ErrIDExists, rpctypes.ErrGRPCMemberExist},
	{cluster.ErrPeerURLExists, rpctypes.ErrGRPCPeerURLExist},
	{cluster.ErrMemberNotLearner, rpctypes.ErrGRPCMemberNotLearner},
	{cluster.ErrTooManyLearners, rpctypes.ErrGRPCTooManyLearners},
	{cluster.ErrNotEnoughStarted, status.Error(codes.Unknown, cluster.ErrNotEnoughStarted.Error())},
	{cluster.ErrLearnerNotReady, rpctypes.ErrGRPCLearnerNotReady},
}

// toStatus turns what a handler ended with into what goes on the wire. Errors that are a status already, nil among
// them, stay as they are.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	for _, r := range table {
		if errors.Is(err, r.err) {
			return r.wire
		}
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return status.FromContextError(context.Canceled).Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(context.DeadlineExceeded).Err()
	}
	return byText(err)
}

// codeless is toStatus for Lock and Election, whose failures etcd answers with a text alone: they are made of requests
// of the client's kind, and their errors are a client's.
func codeless(err error) error {
	err = toStatus(err)
	switch c := codeOf(err); c {
	case codes.OK, codes.Canceled, codes.DeadlineExceeded:
		return err
	}
	return status.Error(codes.Unknown, status.Convert(err).Message())
}

// byText gives an error with one of etcd's own texts that text's code: answers that a follower gets from its leader
// come as text. Anything else is unknown.
func byText(err error) error {
	unknown := status.Error(codes.Unknown, err.Error())
	var known rpctypes.EtcdError
	if errors.As(rpctypes.Error(unknown), &known) {
		return status.Error(known.Code(), known.Error())
	}
	return unknown
}
