package rpc

import (
	"context"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
	"keelson/internal/state/auth"
)

// rule says who may make a call while auth is enabled. The zero rule lets nobody in.
type rule struct {
	// anybody may call: the call is harmless, or the member asks about what it touches when it has found that out: keys in
	// the view that is read or when the entry is applied, leases by their keys, changes of members behind their URLs.
	anybody bool
	// need is what the caller needs else.
	need auth.Kind
	// by gives need where it depends on the request.
	by func(req any) auth.Kind
}

var (
	askedByMember = rule{anybody: true}
	forUsers      = rule{need: auth.Login}
	forAdmins     = rule{need: auth.Admin}
)

// ruleOf gives a method's rule. One without a row is refused, whether auth is enabled or not: its row was forgotten.
func ruleOf(method string) (rule, bool) {
	switch method {
	case pb.KV_Range_FullMethodName, pb.KV_RangeStream_FullMethodName, pb.KV_Put_FullMethodName, pb.KV_DeleteRange_FullMethodName, pb.KV_Txn_FullMethodName,
		pb.Watch_Watch_FullMethodName, pb.Lease_LeaseKeepAlive_FullMethodName,
		pb.Cluster_MemberAdd_FullMethodName, pb.Cluster_MemberRemove_FullMethodName, pb.Cluster_MemberUpdate_FullMethodName, pb.Cluster_MemberPromote_FullMethodName,
		pb.Auth_AuthEnable_FullMethodName, pb.Auth_AuthDisable_FullMethodName, pb.Auth_AuthStatus_FullMethodName, pb.Auth_Authenticate_FullMethodName,
		pb.Auth_UserAdd_FullMethodName, pb.Auth_UserGet_FullMethodName, pb.Auth_UserList_FullMethodName, pb.Auth_UserDelete_FullMethodName,
		pb.Auth_UserChangePassword_FullMethodName, pb.Auth_UserGrantRole_FullMethodName, pb.Auth_UserRevokeRole_FullMethodName,
		pb.Auth_RoleAdd_FullMethodName, pb.Auth_RoleGet_FullMethodName, pb.Auth_RoleList_FullMethodName, pb.Auth_RoleDelete_FullMethodName,
		pb.Auth_RoleGrantPermission_FullMethodName, pb.Auth_RoleRevokePermission_FullMethodName,
		healthpb.Health_Check_FullMethodName, healthpb.Health_List_FullMethodName, healthpb.Health_Watch_FullMethodName:
		return askedByMember, true
	case pb.Lease_LeaseGrant_FullMethodName, pb.Lease_LeaseRevoke_FullMethodName, pb.Lease_LeaseTimeToLive_FullMethodName, pb.Lease_LeaseLeases_FullMethodName,
		pb.Cluster_MemberList_FullMethodName, pb.Maintenance_Status_FullMethodName,
		lockpb.Lock_Lock_FullMethodName, lockpb.Lock_Unlock_FullMethodName,
		electionpb.Election_Campaign_FullMethodName, electionpb.Election_Proclaim_FullMethodName, electionpb.Election_Leader_FullMethodName,
		electionpb.Election_Observe_FullMethodName, electionpb.Election_Resign_FullMethodName:
		return forUsers, true
	case pb.KV_Compact_FullMethodName,
		pb.Maintenance_Defragment_FullMethodName, pb.Maintenance_Hash_FullMethodName, pb.Maintenance_HashKV_FullMethodName,
		pb.Maintenance_Snapshot_FullMethodName, pb.Maintenance_MoveLeader_FullMethodName, pb.Maintenance_Downgrade_FullMethodName:
		return forAdmins, true
	case pb.Maintenance_Alarm_FullMethodName:
		return rule{by: func(req any) auth.Kind {
			if r, ok := req.(*pb.AlarmRequest); ok && r.GetAction() == pb.AlarmRequest_GET {
				return auth.Login
			}
			return auth.Admin
		}}, true
	}
	return rule{}, false
}

// authorize refuses a call whose caller may not make it.
func (g *gate) authorize(ctx context.Context, x *method, req any) error {
	if !x.ruled {
		return rpctypes.ErrGRPCPermissionDenied
	}
	if x.rule.anybody {
		return nil
	}
	need := x.rule.need
	if x.rule.by != nil {
		need = x.rule.by(req)
	}
	return g.state.May(ctx, need)
}

// identify gives a context that carries what the call says of its caller.
func (g *gate) identify(ctx context.Context) context.Context {
	if c := g.credentials(ctx); c != nil {
		return auth.With(ctx, c)
	}
	return ctx
}

// credentials gives what a call says of its caller: a token, else, where clients have to bring a certificate, the name in
// it; nil if nothing. A JSON gateway elsewhere calls with a certificate of its own, which says nothing of its clients; this
// server's own has none.
func (g *gate) credentials(ctx context.Context) *auth.Credentials {
	for _, key := range [...]string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
			return &auth.Credentials{Token: strings.TrimPrefix(v[0], "Bearer "), HasToken: true}
		}
	}
	if !g.certified {
		return nil
	}
	p, ok := peer.FromContext(ctx)
	if !ok || len(metadata.ValueFromIncomingContext(ctx, gatewayKey)) > 0 {
		return nil
	}
	tls, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	for _, chain := range tls.State.VerifiedChains {
		if len(chain) > 0 {
			return &auth.Credentials{CommonName: chain[0].Subject.CommonName, Certified: true}
		}
	}
	return nil
}

// gatewayKey is in the metadata of a call that the JSON gateway makes for somebody else.
const gatewayKey = "grpcgateway-accept"
