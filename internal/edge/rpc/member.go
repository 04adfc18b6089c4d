package rpc

import (
	"context"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
	"keelson/internal/state/watch"
)

// Member is what this edge calls: one etcd member. Its methods check what they are asked and answer with filled
// headers; their errors are those that errors.go maps.
type Member interface {
	KV
	Lease
	Cluster
	Maintenance
	Auth
	State
}

// KV reads and writes keys.
type KV interface {
	Range(ctx context.Context, r *pb.RangeRequest) (*wire.RangeResponse, error)
	// RangeStream hands the answer to send in chunks; the last one has the header, more and count. An error of
	// send ends it.
	RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*wire.RangeStreamResponse) error) error
	Put(ctx context.Context, r *pb.PutRequest) (*wire.PutResponse, error)
	DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*wire.DeleteRangeResponse, error)
	Txn(ctx context.Context, r *pb.TxnRequest) (*wire.TxnResponse, error)
	Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error)
}

// Lease grants and keeps leases. Times are seconds.
type Lease interface {
	LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error)
	LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error)
	LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error)
	LeaseLeases(ctx context.Context, r *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error)
	// LeaseRenew renews at the leader and answers the time to live.
	LeaseRenew(ctx context.Context, id int64) (ttl int64, err error)
}

// Cluster changes who the members are.
type Cluster interface {
	MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error)
	MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error)
	MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error)
	MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error)
	MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error)
}

// Maintenance looks after the one member that is asked.
type Maintenance interface {
	Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error)
	Status(ctx context.Context, r *pb.StatusRequest) (*pb.StatusResponse, error)
	Defragment(ctx context.Context, r *pb.DefragmentRequest) (*pb.DefragmentResponse, error)
	Hash(ctx context.Context, r *pb.HashRequest) (*pb.HashResponse, error)
	HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error)
	// Snapshot calls begin once with the store's size in bytes and the storage version, and writes that many
	// bytes to the writer it gets.
	Snapshot(ctx context.Context, begin func(size int64, storageVersion string) io.Writer) error
	MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error)
	Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error)
}

// Auth looks after users, roles and permissions, and gives tokens.
type Auth interface {
	AuthEnable(ctx context.Context, r *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error)
	AuthDisable(ctx context.Context, r *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error)
	AuthStatus(ctx context.Context, r *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error)
	Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error)
	UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error)
	UserGet(ctx context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error)
	UserList(ctx context.Context, r *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error)
	UserDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error)
	UserChangePassword(ctx context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error)
	UserGrantRole(ctx context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error)
	UserRevokeRole(ctx context.Context, r *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error)
	RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error)
	RoleGet(ctx context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error)
	RoleList(ctx context.Context, r *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error)
	RoleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error)
	RoleGrantPermission(ctx context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error)
	RoleRevokePermission(ctx context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error)
}

// State is what the edge needs to know of the member between requests. All of it is cheap.
type State interface {
	// Header names the member, its newest published revision and its term.
	Header() wire.Header
	// Watch is where changes are watched.
	Watch() *watch.Hub
	HasLeader() bool
	IsLearner() bool
	// AuthEnabled tells whether callers have to say who they are, AuthRevision counts the changes of what they may do.
	AuthEnabled() bool
	AuthRevision() uint64
	// May tells whether the caller, whose credentials are in ctx, may do what is not about keys.
	May(ctx context.Context, kind auth.Kind) error
	// MayWatch tells whether the caller may watch a range now; still tells whether that is so later.
	MayWatch(ctx context.Context, key, end []byte) (still func() error, err error)
}
