// Package auth holds users, roles and what they may do, as replicated state: apply changes it entry by entry, and
// everybody else asks an immutable View, which is published together with the keys (mvcc.View.Beside), so that a read is
// judged by the rules of the moment that it shows.
//
// View.May is the one place that decides. What a request does is put to it as Accesses.
//
// Stored, as etcd stores them, in the batch of the entry that changed them:
//
//	authUsers  name → authpb.User
//	authRoles  name → authpb.Role
//	auth       authEnabled (one byte), authRevision (8 bytes big-endian): raised by every change but enabling
package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/storage/schema"
)

// RootUser may do everything by RootRole, which needs no record to be granted. While auth is enabled neither can go.
const (
	RootUser = "root"
	RootRole = "root"
)

// The reasons why something is refused. Texts are those that clients match on.
var (
	// ErrRootUserMissing is returned when auth is to be enabled and there is nobody who could disable it.
	ErrRootUserMissing = errors.New("etcdserver: root user does not exist")
	// ErrRootRoleMissing is returned when auth is to be enabled and user root does not have role root.
	ErrRootRoleMissing = errors.New("etcdserver: root user does not have root role")
	// ErrUserExists is returned for a new user with the name of an old one.
	ErrUserExists = errors.New("etcdserver: user name already exists")
	// ErrUserEmpty is returned for a user without a name, and to who does not say who they are.
	ErrUserEmpty = errors.New("etcdserver: user name is empty")
	// ErrUserNotFound is returned when there is no such user.
	ErrUserNotFound = errors.New("etcdserver: user name not found")
	// ErrRoleExists is returned for a new role with the name of an old one.
	ErrRoleExists = errors.New("etcdserver: role name already exists")
	// ErrRoleNotFound is returned when there is no such role.
	ErrRoleNotFound = errors.New("etcdserver: role name not found")
	// ErrRoleEmpty is returned for a role without a name.
	ErrRoleEmpty = errors.New("etcdserver: role name is empty")
	// ErrFailed is returned to who gives a wrong name or password.
	ErrFailed = errors.New("etcdserver: authentication failed, invalid user ID or password")
	// ErrNoPasswordUser is returned for a password where the user has none, or one that can't be read.
	ErrNoPasswordUser = errors.New("auth: authentication failed, password was given for no password user")
	// ErrPermissionNotGiven is returned for a grant of nothing.
	ErrPermissionNotGiven = errors.New("etcdserver: permission not given")
	// ErrDenied is returned to who may not do what they asked.
	ErrDenied = errors.New("etcdserver: permission denied")
	// ErrRoleNotGranted is returned when a role is taken from a user who does not have it.
	ErrRoleNotGranted = errors.New("etcdserver: role is not granted to the user")
	// ErrPermissionNotGranted is returned when a permission is taken from a role that does not have it.
	ErrPermissionNotGranted = errors.New("etcdserver: permission is not granted to the role")
	// ErrNotEnabled is returned to who wants a token where none are needed.
	ErrNotEnabled = errors.New("etcdserver: authentication is not enabled")
	// ErrInvalidToken is returned for a token that nobody was given, or that has expired.
	ErrInvalidToken = errors.New("etcdserver: invalid auth token")
	// ErrInvalidManagement is returned for what would lock everybody out, and for a range that is none.
	ErrInvalidManagement = errors.New("etcdserver: invalid auth management")
	// ErrOldRevision is returned when the rules changed after the caller's word was taken.
	ErrOldRevision = errors.New("etcdserver: revision of auth store is old")
)

// Saver takes what is to be stored: the batch of the entry at hand.
type Saver interface {
	Put(b schema.Bucket, key, value []byte)
	Delete(b schema.Bucket, key []byte)
}

// Store is the state that apply changes. All its methods are the apply goroutine's.
type Store struct{ now *View }

// New gives the state of a fresh directory: nobody, disabled, at revision 1.
func New() *Store { return &Store{now: &View{revision: firstRevision}} }

const firstRevision = 1

// Now gives the state after the last change, published or not.
func (s *Store) Now() *View { return s.now }

// Stored is what a directory holds of the state.
type Stored struct {
	Enabled, Revision []byte
	Users, Roles      [][]byte
}

// Load replaces the state by what a directory holds, at start and after a snapshot was installed.
func (s *Store) Load(from Stored) error {
	v := &View{enabled: len(from.Enabled) == 1 && from.Enabled[0] == 1, revision: firstRevision}
	if len(from.Revision) > 0 {
		rev, err := schema.Uint64(from.Revision)
		if err != nil {
			return fmt.Errorf("auth: read the stored auth revision: %w", err)
		}
		v.revision = max(rev, firstRevision)
	}
	for _, b := range from.Users {
		u := &authpb.User{}
		if err := proto.Unmarshal(b, u); err != nil {
			return fmt.Errorf("auth: read a stored user: %w", err)
		}
		v.users = append(v.users, &user{string(u.Name), u})
	}
	for _, b := range from.Roles {
		r := &authpb.Role{}
		if err := proto.Unmarshal(b, r); err != nil {
			return fmt.Errorf("auth: read a stored role: %w", err)
		}
		v.roles = append(v.roles, &role{string(r.Name), r})
	}
	slices.SortFunc(v.users, func(a, b *user) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(v.roles, func(a, b *role) int { return strings.Compare(a.name, b.name) })
	v.prepare()
	s.now = v
	return nil
}

// Enable makes everybody say who they are. It tells whether that is new.
func (s *Store) Enable(b Saver) (changed bool, err error) {
	if s.now.enabled {
		return false, nil
	}
	i, ok := s.now.find(RootUser)
	switch {
	case !ok:
		return false, ErrRootUserMissing
	case !s.now.users[i].hasRole(RootRole):
		return false, ErrRootRoleMissing
	}
	v := s.now.next()
	v.enabled = true
	s.now = v
	b.Put(schema.Auth, schema.AuthEnabledKey, []byte{1})
	return true, nil
}

// Disable lets everybody do everything. It tells whether that is new.
func (s *Store) Disable(b Saver) (changed bool) {
	if !s.now.enabled {
		return false
	}
	v := s.now.next()
	v.enabled = false
	b.Put(schema.Auth, schema.AuthEnabledKey, []byte{0})
	s.commit(b, v)
	return true
}

// commit makes v the state, at the next revision.
func (s *Store) commit(b Saver, v *View) {
	v.revision++
	s.now = v
	b.Put(schema.Auth, schema.AuthRevisionKey, schema.PutUint64(v.revision))
}

func saveUser(b Saver, u *user) { b.Put(schema.AuthUsers, []byte(u.name), encode(u.User)) }
func saveRole(b Saver, r *role) { b.Put(schema.AuthRoles, []byte(r.name), encode(r.Role)) }

// encode gives the bytes that are stored. The messages hold bytes, numbers and role names that came out of a decoder,
// which checked them.
func encode(m proto.Message) []byte {
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("auth: a record that was read does not encode: %v", err))
	}
	return out
}
