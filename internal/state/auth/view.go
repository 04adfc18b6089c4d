package auth

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/authpb"
)

// View is the state at one moment. It never changes; any goroutine may ask it.
type View struct {
	enabled  bool
	revision uint64
	users    []*user // by name
	roles    []*role // by name
	// allowed holds, beside users, what each may do, once somebody asked.
	allowed []atomic.Pointer[allowed]
}

// user and role are records as they are stored. They never change.
type user struct {
	name string
	*authpb.User
}

type role struct {
	name string
	*authpb.Role
}

func (u *user) hasRole(name string) bool {
	_, ok := slices.BinarySearch(u.Roles, name)
	return ok
}

// none is the state of those who have not been given any.
var none = View{revision: firstRevision}

// Beside gives the view that was published beside the keys.
func Beside(v any) *View {
	if a, ok := v.(*View); ok {
		return a
	}
	return &none
}

// Enabled tells whether callers have to say who they are.
func (v *View) Enabled() bool { return v.enabled }

// Revision counts the changes of users, roles and permissions.
func (v *View) Revision() uint64 { return v.revision }

// next gives a copy to change: what it holds is shared.
func (v *View) next() *View {
	n := &View{enabled: v.enabled, revision: v.revision, users: v.users, roles: v.roles}
	n.prepare()
	return n
}

// prepare makes room for what users may do, forgotten with every change.
func (v *View) prepare() { v.allowed = make([]atomic.Pointer[allowed], len(v.users)) }

func (v *View) find(name string) (int, bool) {
	return slices.BinarySearchFunc(v.users, name, func(u *user, name string) int { return strings.Compare(u.name, name) })
}

func (v *View) findRole(name string) (int, bool) {
	return slices.BinarySearchFunc(v.roles, name, func(r *role, name string) int { return strings.Compare(r.name, name) })
}

// Kind is what an Access does.
type Kind uint8

const (
	// Denied is nothing that anybody may do: what a request without a rule asks for.
	Denied Kind = iota
	// Login is what everybody may do who says who they are.
	Login
	// Read and Write are of the keys from Key to End; no End: of Key alone; {0}: of all keys from Key on.
	Read
	Write
	// Admin is what needs RootRole.
	Admin
)

// Access is one thing that a request does.
type Access struct {
	Kind     Kind
	Key, End []byte
}

// Caller is somebody who asks. The zero Caller does not say who.
type Caller struct {
	User string
	// Revision is the auth revision at which the caller was known to be User, 0: never.
	Revision uint64
}

// May is the one place where it is decided whether somebody may do something. All members that apply an entry decide alike.
func (v *View) May(c Caller, a Access) error {
	if !v.enabled {
		return nil
	}
	switch a.Kind {
	case Login:
		if c.Revision == 0 {
			return ErrUserEmpty
		}
		return nil
	case Admin:
		if c.User == "" {
			return ErrUserEmpty
		}
		switch m := v.allowedTo(c.User); {
		case m == nil:
			return ErrUserNotFound // a certificate may name nobody
		case m.root:
			return nil
		}
		return ErrDenied
	case Read, Write:
		return v.mayReach(c, a)
	}
	return ErrDenied
}

func (v *View) mayReach(c Caller, a Access) error {
	if c.Revision == 0 {
		return ErrUserEmpty
	}
	if c.Revision < v.revision {
		return ErrOldRevision
	}
	m := v.allowedTo(c.User)
	if m == nil {
		return ErrDenied
	}
	keys := m.read
	if a.Kind == Write {
		keys = m.write
	}
	if m.root || keys.covers(a.Key, a.End) {
		return nil
	}
	return ErrDenied
}

// allowedTo gives what a user may do, nil if there is no such user.
func (v *View) allowedTo(name string) *allowed {
	i, ok := v.find(name)
	if !ok {
		return nil
	}
	m := v.allowed[i].Load()
	if m == nil {
		m = v.merge(v.users[i])
		v.allowed[i].Store(m) // who comes here at the same time stores the same
	}
	return m
}

// HasRole tells whether a user has a role.
func (v *View) HasRole(user, role string) bool {
	i, ok := v.find(user)
	return ok && v.users[i].hasRole(role)
}

// UserRoles gives the roles of a user, by name.
func (v *View) UserRoles(name string) ([]string, error) {
	i, ok := v.find(name)
	if !ok {
		return nil, ErrUserNotFound
	}
	return v.users[i].Roles, nil
}

// Users and Roles give all names, in order.
func (v *View) Users() []string {
	var names []string
	for _, u := range v.users {
		names = append(names, u.name)
	}
	return names
}

// Roles gives the names of all roles, in order.
func (v *View) Roles() []string {
	var names []string
	for _, r := range v.roles {
		names = append(names, r.name)
	}
	return names
}

// Permissions gives what a role permits. RootRole permits everything, whatever was granted to it.
func (v *View) Permissions(name string) ([]*authpb.Permission, error) {
	i, ok := v.findRole(name)
	switch {
	case !ok:
		return nil, ErrRoleNotFound
	case name == RootRole:
		return []*authpb.Permission{{PermType: authpb.Permission_READWRITE, Key: []byte{}, RangeEnd: []byte{0}}}, nil
	}
	return v.roles[i].KeyPermission, nil
}

// Password gives the hash that a user's password is checked against.
func (v *View) Password(name string) ([]byte, error) {
	if !v.enabled {
		return nil, ErrNotEnabled
	}
	i, ok := v.find(name)
	switch {
	case !ok:
		return nil, ErrFailed
	case v.users[i].GetOptions().GetNoPassword():
		return nil, ErrNoPasswordUser
	}
	return v.users[i].Password, nil
}

// MayHaveToken tells, at apply, whether a user whose password was checked gets a token.
func (v *View) MayHaveToken(name string) error {
	_, err := v.Password(name)
	if errors.Is(err, ErrNoPasswordUser) {
		return ErrFailed
	}
	return err
}
