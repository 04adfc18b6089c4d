package server

import (
	"errors"

	"keelson/internal/apply"
)

// The reasons why the member refuses or gives up a request. Texts are etcd's; edges map them to the wire.
var (
	// ErrStopped is returned once the member has begun to stop.
	ErrStopped = errors.New("etcdserver: server stopped")
	// ErrCanceled is returned when the client gave up its own request.
	ErrCanceled = errors.New("etcdserver: request cancelled")
	// ErrTimeout is returned when a request found no leader, or no majority, in time.
	ErrTimeout = errors.New("etcdserver: request timed out")
	// ErrTimeoutLeaderFail is returned when time ran out and the leader was lost meanwhile.
	ErrTimeoutLeaderFail = errors.New("etcdserver: request timed out, possibly due to previous leader failure")
	// ErrTimeoutConnLost is returned when time ran out and the leader could not be reached.
	ErrTimeoutConnLost = errors.New("etcdserver: request timed out, possibly due to connection lost")
	// ErrTimeoutLeaderTransfer is returned when a leadership was not handed over in time.
	ErrTimeoutLeaderTransfer = errors.New("etcdserver: request timed out, leader transfer took too long")
	// ErrTimeoutWaitAppliedIndex is returned when this member did not catch up in time.
	ErrTimeoutWaitAppliedIndex = errors.New("etcdserver: request timed out, waiting for the applied index took too long")
	// ErrLeaderChanged is returned to a read whose leader changed before it was confirmed. Reads are asked again
	// here; a proxied one may be answered so by a stock member.
	ErrLeaderChanged = errors.New("etcdserver: leader changed")
	// ErrNoLeader is returned to those who asked to be told when there is no leader.
	ErrNoLeader = errors.New("etcdserver: no leader")
	// ErrNotLeader is returned for what only a leader may do.
	ErrNotLeader = errors.New("etcdserver: not leader")
	// ErrBadTransferee is returned when leadership is to go to somebody who does not vote.
	ErrBadTransferee = errors.New("etcdserver: bad leader transferee")
	// ErrRequestTooLarge is returned for a request that is larger than --max-request-bytes.
	ErrRequestTooLarge = errors.New("etcdserver: request is too large")
	// ErrTooManyRequests is returned when the bound on waiting requests is reached.
	ErrTooManyRequests = errors.New("etcdserver: too many requests")
	// ErrUnhealthy is returned when too few members are connected for what was asked.
	ErrUnhealthy = errors.New("etcdserver: unhealthy cluster")
	// ErrBadPeerURLs is returned for peer URLs that others could not call: none, without a port, with a path, one twice.
	ErrBadPeerURLs = errors.New("etcdserver: given member URLs are invalid")
	// ErrLearnerUnsupported is returned for what a learner does not serve.
	ErrLearnerUnsupported = errors.New("etcdserver: rpc not supported for learner")
	// ErrEmptyKey is returned for a request without a key.
	ErrEmptyKey = errors.New("etcdserver: key is not provided")
	// ErrValueProvided is returned for a put that both keeps and gives the value.
	ErrValueProvided = errors.New("etcdserver: value is provided")
	// ErrLeaseProvided is returned for a put that both keeps and gives the lease.
	ErrLeaseProvided = errors.New("etcdserver: lease is provided")
	// ErrTooManyOps is returned for a transaction with more operations than --max-txn-ops.
	ErrTooManyOps = errors.New("etcdserver: too many operations in txn request")
	// ErrDuplicateKey is returned for a transaction that would change one key twice.
	ErrDuplicateKey = errors.New("etcdserver: duplicate key given in txn request")
	// ErrInvalidSortOption is returned for an unknown sort order or target.
	ErrInvalidSortOption = errors.New("etcdserver: invalid sort option")
	// ErrStreamSorted and ErrStreamFiltered are returned for a streamed range in an order, or with filters, that a
	// stream can't serve.
	ErrStreamSorted   = errors.New("RangeStream does not support custom sort orders")
	ErrStreamFiltered = errors.New("RangeStream does not support revision filters")
	// ErrDowngradeVersionFormat is returned when the target of a downgrade is not a version.
	ErrDowngradeVersionFormat = errors.New("etcdserver: wrong downgrade target version format")
	// ErrInvalidDowngradeTarget is returned when it is another than the minor version before the cluster's.
	ErrInvalidDowngradeTarget = errors.New("etcdserver: invalid downgrade target version")
	// ErrDowngradeInProcess is returned when a downgrade has begun and not ended.
	ErrDowngradeInProcess = errors.New("etcdserver: cluster has a downgrade job in progress")
	// ErrNoInflightDowngrade is returned when there is no downgrade to call off.
	ErrNoInflightDowngrade = errors.New("etcdserver: no inflight downgrade job")
	// ErrClusterVersionUnavailable is returned for a downgrade of a cluster that has not decided its version yet.
	ErrClusterVersionUnavailable = errors.New("etcdserver: cluster version not found during downgrade")
	// ErrUnknownMethod is returned for an action that this version does not know.
	ErrUnknownMethod = errors.New("etcdserver: unknown method")
)

// The reasons that apply gives, under this package's name for those who can't import apply.
var (
	ErrNoSpace     = apply.ErrNoSpace
	ErrCorrupt     = apply.ErrCorrupt
	ErrKeyNotFound = apply.ErrKeyNotFound
)
