package auth

import (
	"encoding/base64"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/storage/schema"
)

// Hasher hashes a password. Only entries of etcd before 3.5 carry passwords that are not hashed.
type Hasher func(password string) ([]byte, error)

// stored gives the hash to store of what a request brings.
func stored(password, hashed string, hash Hasher) ([]byte, error) {
	if password != "" && hashed == "" {
		h, err := hash(password)
		if err != nil {
			return nil, ErrNoPasswordUser
		}
		return h, nil
	}
	h, err := base64.StdEncoding.DecodeString(hashed)
	if err != nil {
		return nil, ErrNoPasswordUser
	}
	return h, nil
}

// UserAdd adds a user without roles.
func (s *Store) UserAdd(b Saver, r *pb.AuthUserAddRequest, hash Hasher) error {
	if r.Name == "" {
		return ErrUserEmpty
	}
	i, ok := s.now.find(r.Name)
	if ok {
		return ErrUserExists
	}
	u := &authpb.User{Name: []byte(r.Name), Options: r.Options}
	if u.Options == nil {
		u.Options = &authpb.UserAddOptions{}
	}
	if !u.Options.NoPassword {
		var err error
		if u.Password, err = stored(r.Password, r.HashedPassword, hash); err != nil {
			return err
		}
	}
	v := s.now.next()
	added := &user{r.Name, u}
	v.users = slices.Insert(slices.Clone(v.users), i, added)
	v.prepare()
	saveUser(b, added)
	s.commit(b, v)
	return nil
}

// UserDelete takes a user away: not root while auth is enabled.
func (s *Store) UserDelete(b Saver, r *pb.AuthUserDeleteRequest) error {
	if s.now.enabled && r.Name == RootUser {
		return ErrInvalidManagement
	}
	i, ok := s.now.find(r.Name)
	if !ok {
		return ErrUserNotFound
	}
	v := s.now.next()
	v.users = slices.Delete(slices.Clone(v.users), i, i+1)
	v.prepare()
	b.Delete(schema.AuthUsers, []byte(r.Name))
	s.commit(b, v)
	return nil
}

// UserChangePassword gives a user another password. One without a password stays so.
func (s *Store) UserChangePassword(b Saver, r *pb.AuthUserChangePasswordRequest, hash Hasher) error {
	i, ok := s.now.find(r.Name)
	if !ok {
		return ErrUserNotFound
	}
	old := s.now.users[i]
	u := &authpb.User{Name: []byte(r.Name), Roles: old.Roles, Options: old.Options}
	if !old.GetOptions().GetNoPassword() {
		var err error
		if u.Password, err = stored(r.Password, r.HashedPassword, hash); err != nil {
			return err
		}
	}
	s.changeUser(b, i, u)
	return nil
}

// UserGrantRole gives a user a role. One that the user has already changes nothing.
func (s *Store) UserGrantRole(b Saver, r *pb.AuthUserGrantRoleRequest) error {
	i, ok := s.now.find(r.User)
	if !ok {
		return ErrUserNotFound
	}
	if _, ok := s.now.findRole(r.Role); !ok && r.Role != RootRole {
		return ErrRoleNotFound
	}
	old := s.now.users[i]
	at, ok := slices.BinarySearch(old.Roles, r.Role)
	if ok {
		return nil
	}
	s.changeUser(b, i, withRoles(old, slices.Insert(slices.Clone(old.Roles), at, r.Role)))
	return nil
}

// UserRevokeRole takes a role from a user: not RootRole from root while auth is enabled.
func (s *Store) UserRevokeRole(b Saver, r *pb.AuthUserRevokeRoleRequest) error {
	if s.now.enabled && r.Name == RootUser && r.Role == RootRole {
		return ErrInvalidManagement
	}
	i, ok := s.now.find(r.Name)
	if !ok {
		return ErrUserNotFound
	}
	old := s.now.users[i]
	left := without(old.Roles, r.Role)
	if len(left) == len(old.Roles) {
		return ErrRoleNotGranted
	}
	s.changeUser(b, i, withRoles(old, left))
	return nil
}

func withRoles(old *user, roles []string) *authpb.User {
	return &authpb.User{Name: old.Name, Password: old.Password, Options: old.Options, Roles: roles}
}

func without(roles []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return r == name })
}

// changeUser puts u in the place of the user at i.
func (s *Store) changeUser(b Saver, i int, u *authpb.User) {
	v := s.now.next()
	v.users = slices.Clone(v.users)
	v.users[i] = &user{v.users[i].name, u}
	saveUser(b, v.users[i])
	s.commit(b, v)
}
