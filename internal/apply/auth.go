package apply

import (
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Tokens is told which tokens begin and end: they are made by the log, so that every member knows all of them, and kept in
// memory by each.
type Tokens interface {
	// Assign makes the token that the proposer's prefix and an index give good for a user, and gives it. Members that sign
	// their tokens give none.
	Assign(user, prefix string, index uint64) (token string)
	// Drop ends a user's tokens, DropAll everybody's.
	Drop(user string)
	DropAll()
}

// noTokens is for logs that are read and answer nobody.
type noTokens struct{}

func (noTokens) Assign(string, string, uint64) string { return "" }
func (noTokens) Drop(string)                          {}
func (noTokens) DropAll()                             {}

// errNoHasher is returned where a password that is not hashed comes to an applier that hashes none.
var errNoHasher = errors.New("apply: passwords can't be hashed here")

func noHasher(string) ([]byte, error) { return nil, errNoHasher }

func authEnable(a *Applier, _ *pb.InternalRaftRequest, _ bool) Result {
	if _, err := a.Auth.Enable(a.batch); err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthEnableResponse{Header: a.header()}}
}

func authDisable(a *Applier, _ *pb.InternalRaftRequest, _ bool) Result {
	if a.Auth.Disable(a.batch) {
		a.o.Tokens.DropAll()
	}
	return Result{Resp: &pb.AuthDisableResponse{Header: a.header()}}
}

func authStatus(a *Applier, _ *pb.InternalRaftRequest, _ bool) Result {
	v := a.Auth.Now()
	return Result{Resp: &pb.AuthStatusResponse{Header: a.header(), Enabled: v.Enabled(), AuthRevision: v.Revision()}}
}

// authenticate gives a token to a user whose password the proposer has checked. Its number is that of the entry before, as
// every etcd makes it: a token from one member is known to all.
func authenticate(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	req := r.Authenticate
	if err := a.Auth.Now().MayHaveToken(req.Name); err != nil {
		return Result{Err: err}
	}
	token := a.o.Tokens.Assign(req.Name, req.SimpleToken, a.index-1)
	return Result{Resp: &pb.AuthenticateResponse{Header: a.header(), Token: token}}
}

func userAdd(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.UserAdd(a.batch, r.AuthUserAdd, a.o.Hash); err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthUserAddResponse{Header: a.header()}}
}

func userGet(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	roles, err := a.Auth.Now().UserRoles(r.AuthUserGet.Name)
	if err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthUserGetResponse{Header: a.header(), Roles: roles}}
}

func userList(a *Applier, _ *pb.InternalRaftRequest, _ bool) Result {
	return Result{Resp: &pb.AuthUserListResponse{Header: a.header(), Users: a.Auth.Now().Users()}}
}

func userDelete(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.UserDelete(a.batch, r.AuthUserDelete); err != nil {
		return Result{Err: err}
	}
	a.o.Tokens.Drop(r.AuthUserDelete.Name)
	return Result{Resp: &pb.AuthUserDeleteResponse{Header: a.header()}}
}

func userChangePassword(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.UserChangePassword(a.batch, r.AuthUserChangePassword, a.o.Hash); err != nil {
		return Result{Err: err}
	}
	a.o.Tokens.Drop(r.AuthUserChangePassword.Name)
	return Result{Resp: &pb.AuthUserChangePasswordResponse{Header: a.header()}}
}

func userGrantRole(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.UserGrantRole(a.batch, r.AuthUserGrantRole); err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthUserGrantRoleResponse{Header: a.header()}}
}

func userRevokeRole(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.UserRevokeRole(a.batch, r.AuthUserRevokeRole); err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthUserRevokeRoleResponse{Header: a.header()}}
}

func roleAdd(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.RoleAdd(a.batch, r.AuthRoleAdd); err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthRoleAddResponse{Header: a.header()}}
}

func roleGet(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	perm, err := a.Auth.Now().Permissions(r.AuthRoleGet.Role)
	if err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthRoleGetResponse{Header: a.header(), Perm: perm}}
}

func roleList(a *Applier, _ *pb.InternalRaftRequest, _ bool) Result {
	return Result{Resp: &pb.AuthRoleListResponse{Header: a.header(), Roles: a.Auth.Now().Roles()}}
}

func roleDelete(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.RoleDelete(a.batch, r.AuthRoleDelete); err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthRoleDeleteResponse{Header: a.header()}}
}

func roleGrantPermission(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.RoleGrantPermission(a.batch, r.AuthRoleGrantPermission); err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthRoleGrantPermissionResponse{Header: a.header()}}
}

func roleRevokePermission(a *Applier, r *pb.InternalRaftRequest, _ bool) Result {
	if err := a.Auth.RoleRevokePermission(a.batch, r.AuthRoleRevokePermission); err != nil {
		return Result{Err: err}
	}
	return Result{Resp: &pb.AuthRoleRevokePermissionResponse{Header: a.header()}}
}
