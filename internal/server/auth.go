package server

import (
	"context"
	"encoding/base64"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"

	"keelson/internal/apply"
	"keelson/internal/kit/password"
	"keelson/internal/state/auth"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
)

// authority finds out who calls, and asks the published rules what they may do.
type authority struct {
	view  func() *mvcc.View
	kind  tokenKind
	lease *lease.Table
}

// rules gives the rules that are published now.
func (a *authority) rules() *auth.View { return rulesOf(a.view()) }

// rulesOf gives the rules of the moment that a view shows.
func rulesOf(v *mvcc.View) *auth.View { return auth.Beside(v.Beside()) }

// caller gives who calls, as of v. Nobody where nobody has to say.
func (a *authority) caller(ctx context.Context, v *auth.View) (auth.Caller, error) {
	if !v.Enabled() {
		return auth.Caller{}, nil
	}
	c := auth.From(ctx)
	switch {
	case c == nil:
		return auth.Caller{}, nil
	case c.Itself():
		return auth.Caller{User: auth.RootUser, Revision: v.Revision()}, nil
	case c.HasToken:
		user, rev, ok := a.kind.verify(ctx, c.Token)
		if !ok {
			return auth.Caller{}, auth.ErrInvalidToken
		}
		if rev == 0 {
			rev = v.Revision()
		}
		return auth.Caller{User: user, Revision: rev}, nil
	case c.Certified:
		return auth.Caller{User: c.CommonName, Revision: v.Revision()}, nil
	}
	return auth.Caller{}, nil
}

// guard gives who asks whether the caller may do what on a view.
func (a *authority) guard(ctx context.Context, v *mvcc.View) (apply.Guard, error) {
	rules := rulesOf(v)
	c, err := a.caller(ctx, rules)
	return apply.Guard{View: rules, Caller: c, Leases: a.lease}, err
}

// now is guard for the rules that are published now.
func (a *authority) now(ctx context.Context) (apply.Guard, error) { return a.guard(ctx, a.view()) }

// may tells whether the caller may do one thing on a view.
func (a *authority) may(ctx context.Context, v *mvcc.View, x auth.Access) error {
	if !rulesOf(v).Enabled() {
		return nil
	}
	g, err := a.guard(ctx, v)
	if err != nil {
		return err
	}
	return g.May(x)
}

// May tells whether the caller may do something that is not about keys.
func (a *authority) May(ctx context.Context, kind auth.Kind) error {
	return a.may(ctx, a.view(), auth.Access{Kind: kind})
}

// Auth looks after users, roles and permissions, and gives tokens.
type Auth struct {
	identity
	*authority
	proposer  *proposer
	reads     *reads
	passwords *password.Checker
	logger    *zap.Logger
}

// AuthEnabled tells whether callers have to say who they are.
func (s *Auth) AuthEnabled() bool { return s.rules().Enabled() }

// AuthRevision counts the changes of users, roles and permissions.
func (s *Auth) AuthRevision() uint64 { return s.rules().Revision() }

// MayWatch tells whether the caller may watch a range now, and what tells the same later: for a watch that goes on, it is
// what its user may do that counts, and not how long its token is good for.
func (s *Auth) MayWatch(ctx context.Context, key, end []byte) (still func() error, err error) {
	g, err := s.now(ctx)
	if err == nil {
		err = g.Range(key, end)
	}
	if err != nil {
		return nil, err
	}
	// Only one goroutine at a time asks; for as long as the rules stay the same the answer does too.
	last := g.View
	return func() error {
		now := s.rules()
		if now == last {
			return err
		}
		last = now
		if g.View.Enabled() {
			c := auth.Caller{User: g.Caller.User, Revision: now.Revision()}
			err = now.May(c, auth.Access{Kind: auth.Read, Key: key, End: end})
			return err
		}
		// Who began to watch while nobody was asked may have said who they are all the same.
		if g, err = s.now(ctx); err == nil {
			err = g.Range(key, end)
		}
		return err
	}, nil
}

// Authenticate gives a token to who knows a user's password. The password is checked here and is not in the log; where a
// change came in between, it is checked again.
func (s *Auth) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	if err := s.reads.linearize(ctx); err != nil {
		return nil, err
	}
	for {
		v := s.rules()
		if err := s.checkPassword(ctx, v, r); err != nil {
			return nil, err
		}
		prefix, err := s.kind.prefix()
		if err != nil {
			return nil, err
		}
		req := &pb.InternalAuthenticateRequest{Name: r.Name, SimpleToken: prefix}
		resp, err := asked[*pb.AuthenticateResponse](ctx, s, &pb.InternalRaftRequest{Authenticate: req})
		if err != nil {
			return nil, err
		}
		if v.Revision() != s.AuthRevision() {
			continue
		}
		resp.Token, err = s.kind.finish(r.Name, v.Revision(), resp.Token)
		return resp, err
	}
}

func (s *Auth) checkPassword(ctx context.Context, v *auth.View, r *pb.AuthenticateRequest) error {
	hash, err := v.Password(r.Name)
	if err == nil {
		err = s.passwords.Check(ctx, r.Name, hash, r.Password)
	}
	switch {
	case err == nil || errors.Is(err, auth.ErrNotEnabled):
		return err
	case errors.Is(err, password.ErrBusy):
		return ErrTooManyRequests
	case errors.Is(err, password.ErrClosed):
		return ErrStopped
	case ctx.Err() != nil:
		return explainRead(ctx.Err(), ErrTimeout)
	case !errors.Is(err, auth.ErrNoPasswordUser):
		err = auth.ErrFailed
	}
	s.logger.Warn("invalid authentication was requested", zap.String("user", r.Name), zap.Error(err))
	return err
}

// headed is what apply answers to a request of this service.
type headed interface{ GetHeader() *pb.ResponseHeader }

// asked runs a request through the log and completes the answer.
func asked[R headed](ctx context.Context, s *Auth, r *pb.InternalRaftRequest) (resp R, err error) {
	res, err := s.proposer.propose(ctx, r)
	if err != nil {
		return resp, err
	}
	resp = res.Resp.(R)
	s.fillPB(resp.GetHeader())
	return resp, nil
}

// AuthEnable makes everybody say who they are.
func (s *Auth) AuthEnable(ctx context.Context, r *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	return asked[*pb.AuthEnableResponse](ctx, s, &pb.InternalRaftRequest{AuthEnable: r})
}

// AuthDisable lets everybody do everything.
func (s *Auth) AuthDisable(ctx context.Context, r *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	return asked[*pb.AuthDisableResponse](ctx, s, &pb.InternalRaftRequest{AuthDisable: r})
}

// AuthStatus tells whether auth is enabled, and its revision.
func (s *Auth) AuthStatus(ctx context.Context, r *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return asked[*pb.AuthStatusResponse](ctx, s, &pb.InternalRaftRequest{AuthStatus: r})
}

// UserAdd adds a user. The password is hashed before it is in the log.
func (s *Auth) UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	if err := s.May(ctx, auth.Admin); err != nil {
		return nil, err // apply says the same, but a hash is dear
	}
	q := &pb.AuthUserAddRequest{Name: r.Name, Options: r.Options}
	if !r.GetOptions().GetNoPassword() {
		h, err := s.hash(r.Password)
		if err != nil {
			return nil, err
		}
		q.HashedPassword = h
	}
	return asked[*pb.AuthUserAddResponse](ctx, s, &pb.InternalRaftRequest{AuthUserAdd: q})
}

// UserChangePassword gives a user another password. An empty one lets nobody in.
func (s *Auth) UserChangePassword(ctx context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	if err := s.May(ctx, auth.Admin); err != nil {
		return nil, err
	}
	q := &pb.AuthUserChangePasswordRequest{Name: r.Name, HashedPassword: r.HashedPassword}
	if r.Password != "" {
		h, err := s.hash(r.Password)
		if err != nil {
			return nil, err
		}
		q.HashedPassword = h
	}
	return asked[*pb.AuthUserChangePasswordResponse](ctx, s, &pb.InternalRaftRequest{AuthUserChangePassword: q})
}

// hash gives a password's hash as it goes into the log. One that is too long is refused in bcrypt's own words, as by etcd.
func (s *Auth) hash(text string) (string, error) {
	h, err := s.passwords.Hash(text)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		err = bcrypt.ErrPasswordTooLong
	}
	return base64.StdEncoding.EncodeToString(h), err
}

// UserGet tells which roles a user has.
func (s *Auth) UserGet(ctx context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	return asked[*pb.AuthUserGetResponse](ctx, s, &pb.InternalRaftRequest{AuthUserGet: r})
}

// UserList lists all users.
func (s *Auth) UserList(ctx context.Context, r *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	return asked[*pb.AuthUserListResponse](ctx, s, &pb.InternalRaftRequest{AuthUserList: r})
}

// UserDelete takes a user away.
func (s *Auth) UserDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	return asked[*pb.AuthUserDeleteResponse](ctx, s, &pb.InternalRaftRequest{AuthUserDelete: r})
}

// UserGrantRole gives a user a role.
func (s *Auth) UserGrantRole(ctx context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	return asked[*pb.AuthUserGrantRoleResponse](ctx, s, &pb.InternalRaftRequest{AuthUserGrantRole: r})
}

// UserRevokeRole takes a role from a user.
func (s *Auth) UserRevokeRole(ctx context.Context, r *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	return asked[*pb.AuthUserRevokeRoleResponse](ctx, s, &pb.InternalRaftRequest{AuthUserRevokeRole: r})
}

// RoleAdd adds a role.
func (s *Auth) RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	return asked[*pb.AuthRoleAddResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleAdd: r})
}

// RoleGet tells what a role permits.
func (s *Auth) RoleGet(ctx context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	return asked[*pb.AuthRoleGetResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleGet: r})
}

// RoleList lists all roles.
func (s *Auth) RoleList(ctx context.Context, r *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	return asked[*pb.AuthRoleListResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleList: r})
}

// RoleDelete takes a role away, from all who have it.
func (s *Auth) RoleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	return asked[*pb.AuthRoleDeleteResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleDelete: r})
}

// RoleGrantPermission adds a range to a role.
func (s *Auth) RoleGrantPermission(ctx context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	return asked[*pb.AuthRoleGrantPermissionResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleGrantPermission: r})
}

// RoleRevokePermission takes a range from a role.
func (s *Auth) RoleRevokePermission(ctx context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	return asked[*pb.AuthRoleRevokePermissionResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleRevokePermission: r})
}
