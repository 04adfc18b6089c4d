package main

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// fakeAuth is the fake's users and roles: the names in a request choose the answer. Passwords that begin with "pw" are right;
// others may be names of what a member is like, such as one without a role root.
type fakeAuth struct {
	pb.UnimplementedAuthServer

	added *pb.AuthUserAddRequest             // the last one
	grant *pb.AuthRoleGrantPermissionRequest // the last one
	made  []string                           // what enabling made up for
}

func (f *fakeAuth) Authenticate(_ context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	if r.Name != "root" || r.Password == "no" {
		return nil, rpctypes.ErrGRPCAuthFailed
	}
	return &pb.AuthenticateResponse{Header: headerNoRevision(), Token: r.Password}, nil
}

// member tells by the token what the member is like.
func member(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get(rpctypes.TokenFieldNameGRPC), "")
}

func (f *fakeAuth) AuthEnable(ctx context.Context, _ *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	switch {
	case member(ctx) == "strange":
		return nil, rpctypes.ErrGRPCRootUserNotExist
	case member(ctx) == "rootless" && len(f.made) < 2:
		return nil, rpctypes.ErrGRPCRootRoleNotExist
	}
	return &pb.AuthEnableResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) AuthDisable(context.Context, *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	return &pb.AuthDisableResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return &pb.AuthStatusResponse{Header: headerNoRevision(), Enabled: true, AuthRevision: 12}, nil
}

func (f *fakeAuth) UserAdd(_ context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	f.added = r
	switch {
	case r.Name == "taken":
		return nil, rpctypes.ErrGRPCUserAlreadyExist
	case r.Password == "" && !r.Options.GetNoPassword():
		return nil, rpctypes.ErrGRPCUserEmpty
	}
	return &pb.AuthUserAddResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) UserDelete(_ context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	if r.Name == "nobody" {
		return nil, rpctypes.ErrGRPCUserNotFound
	}
	return &pb.AuthUserDeleteResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) UserGet(_ context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	a := &pb.AuthUserGetResponse{Header: headerNoRevision()}
	switch r.Name {
	case "nobody":
		return nil, rpctypes.ErrGRPCUserNotFound
	case "ann":
		a.Roles = []string{"app", "root", "empty"}
	case "odd":
		a.Roles = []string{"empty", "nothing"}
	}
	return a, nil
}

func (f *fakeAuth) UserList(context.Context, *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	return &pb.AuthUserListResponse{Header: headerNoRevision(), Users: []string{"ann", "root"}}, nil
}

func (f *fakeAuth) UserChangePassword(context.Context, *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	return &pb.AuthUserChangePasswordResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) UserGrantRole(_ context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	if r.User == "nobody" {
		return nil, rpctypes.ErrGRPCUserNotFound
	}
	f.made = append(f.made, "role "+r.Role+" for "+r.User)
	return &pb.AuthUserGrantRoleResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) UserRevokeRole(context.Context, *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	return &pb.AuthUserRevokeRoleResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) RoleAdd(_ context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	f.made = append(f.made, "role "+r.Name)
	return &pb.AuthRoleAddResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) RoleDelete(context.Context, *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	return &pb.AuthRoleDeleteResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) RoleGet(_ context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	a := &pb.AuthRoleGetResponse{Header: headerNoRevision()}
	switch r.Role {
	case "nothing":
		return nil, rpctypes.ErrGRPCRoleNotFound
	case "app":
		for _, p := range []struct {
			kind     authpb.Permission_Type
			key, end string
		}{
			{authpb.Permission_READ, "one", ""}, {authpb.Permission_WRITE, "two", ""}, {authpb.Permission_READWRITE, "b\x00\"in\xff", ""},
			{authpb.Permission_READ, "a", "c"}, {authpb.Permission_READWRITE, "/app/", "/app0"}, {authpb.Permission_WRITE, "from", "\x00"},
			{authpb.Permission_READWRITE, "\x00", "\x00"}, {authpb.Permission_READ, "\xff", "\x00"}, {authpb.Permission_READ, "", "\x00"},
		} {
			a.Perm = append(a.Perm, &authpb.Permission{PermType: p.kind, Key: []byte(p.key), RangeEnd: []byte(p.end)})
		}
	}
	return a, nil
}

func (f *fakeAuth) RoleList(context.Context, *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	return &pb.AuthRoleListResponse{Header: headerNoRevision(), Roles: []string{"app", "root"}}, nil
}

func (f *fakeAuth) RoleGrantPermission(_ context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	f.grant = r
	return &pb.AuthRoleGrantPermissionResponse{Header: headerNoRevision()}, nil
}

func (f *fakeAuth) RoleRevokePermission(_ context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	if r.Role == "nothing" {
		return nil, rpctypes.ErrGRPCRoleNotFound
	}
	return &pb.AuthRoleRevokePermissionResponse{Header: headerNoRevision()}, nil
}
