// Package v2auth is what users and roles of etcd's v2 API mean: how requests change them and what they allow. It holds
// nothing: the edge of the same name reads and writes the records, which are v3 keys below the prefix of v2's keys (package
// v2tree):
//
//	P "auth/enabled"       "true" or "false"; missing: false
//	P "auth/users/NAME"    a User, with the bcrypt hash of the password
//	P "auth/roles/NAME"    a Role; role root has none and may do everything
//
// Answers, codes and texts are 3.4.23's.
package v2auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

const (
	// Root names the user without whom auth is not enabled, and the role that may do everything.
	Root = "root"
	// Guest names the role of those who do not say who they are.
	Guest = "guest"
)

// The names of the records below v2tree.Prefix.Auth.
const (
	Enabled = "enabled"
	Users   = "users/"
	Roles   = "roles/"
)

// On is what the record Enabled says while auth is enabled, Off what it says afterwards.
const (
	On  = "true"
	Off = "false"
)

// Kind says what sort of refusal an Error is.
type Kind int

// The kinds.
const (
	Invalid Kind = iota
	NotFound
	Conflict
	Forbidden
)

// Error is why a request is refused, in 3.4's words.
type Error struct {
	Kind Kind
	text string
}

// Error gives the text as v2 answers it.
func (e *Error) Error() string { return "auth: " + e.text }

func refuse(k Kind, format string, args ...any) error { return &Error{k, fmt.Sprintf(format, args...)} }

// ErrRecord is returned when a record is not what its name says.
var ErrRecord = errors.New("v2auth: malformed record")

// User is a user, in requests, answers and records.
type User struct {
	User     string   `json:"user"`
	Password string   `json:"password,omitempty"`
	Roles    []string `json:"roles"`
	Grant    []string `json:"grant,omitempty"`
	Revoke   []string `json:"revoke,omitempty"`
}

// Role is a role, in requests, answers and records.
type Role struct {
	Role        string       `json:"role"`
	Permissions Permissions  `json:"permissions"`
	Grant       *Permissions `json:"grant,omitempty"`
	Revoke      *Permissions `json:"revoke,omitempty"`
}

// Permissions are what a role may do.
type Permissions struct {
	KV struct {
		Read  []string `json:"read"`
		Write []string `json:"write"`
	} `json:"kv"`
}

// Empty tells whether nothing is permitted; no permissions at all are none.
func (p *Permissions) Empty() bool { return p == nil || len(p.KV.Read) == 0 && len(p.KV.Write) == 0 }

// Hasher makes a hash of a password.
type Hasher func(password string) (string, error)

// ParseUser reads a user's record. The user root has the role root whatever it says.
func ParseUser(b []byte) (User, error) {
	var u User
	if err := json.Unmarshal(b, &u); err != nil {
		return u, fmt.Errorf("%w: user: %w", ErrRecord, err)
	}
	return u.rooted(), nil
}

// ParseRole reads a role's record.
func ParseRole(b []byte) (Role, error) {
	var r Role
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%w: role: %w", ErrRecord, err)
	}
	return r, nil
}

func (u User) rooted() User {
	if u.User == Root && !slices.Contains(u.Roles, Root) {
		u.Roles = append(slices.Clone(u.Roles), Root)
	}
	return u
}

// PutUser gives what comes of a user by a request; old is nil where there is none. created tells that a request without roles
// made the user.
func PutUser(old *User, req User, hash Hasher) (now User, created bool, err error) {
	changes := len(req.Grant) > 0 || len(req.Revoke) > 0
	switch {
	case changes && old == nil:
		return now, false, refuse(NotFound, "User %s does not exist.", req.User)
	case changes, old != nil && len(req.Roles) == 0:
		now, err = old.merge(req, hash)
		return now, false, err
	case req.Password == "":
		return now, false, refuse(Invalid, "Cannot create user %s with an empty password", req.User)
	case old != nil:
		return now, false, refuse(Conflict, "User %s already exists.", req.User)
	}
	now = User{User: req.User, Roles: req.Roles}.rooted()
	now.Password, err = hash(req.Password)
	return now, len(req.Roles) == 0, err
}

// merge grants and revokes roles, and sets another password.
func (u *User) merge(req User, hash Hasher) (User, error) {
	now := User{User: u.User, Password: u.Password, Roles: []string{}}
	set := map[string]bool{}
	for _, r := range u.Roles {
		set[r] = true
	}
	for _, r := range req.Grant {
		if set[r] {
			return now, refuse(Conflict, "Granting duplicate role %s for user %s", r, u.User)
		}
		set[r] = true
	}
	for _, r := range req.Revoke {
		if !set[r] {
			return now, refuse(Conflict, "Revoking ungranted role %s for user %s", r, u.User)
		}
		delete(set, r)
	}
	now.Roles = sorted(set)
	if req.Password != "" {
		var err error
		if now.Password, err = hash(req.Password); err != nil {
			return now, err
		}
	}
	if reflect.DeepEqual(now, *u) { // the order counts, and no roles are not the same as none
		return now, refuse(Invalid, "User not updated. Use grant/revoke/password to update the user.")
	}
	return now, nil
}

// sorted lists a set; none are an empty list.
func sorted(set map[string]bool) []string {
	all := make([]string, 0, len(set))
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// DeleteUser refuses to delete who is not there, and root while auth is enabled.
func DeleteUser(old *User, name string, enabled bool) error {
	switch {
	case enabled && name == Root:
		return refuse(Forbidden, "Cannot delete root user while auth is enabled.")
	case old == nil:
		return NoUser(name)
	}
	return nil
}

// NoUser says that there is no such user to delete; the one who asks for a user is told with a full stop.
func NoUser(name string) error { return refuse(NotFound, "User %s does not exist", name) }

// NoUserHere says that there is no such user.
func NoUserHere(name string) error { return refuse(NotFound, "User %s does not exist.", name) }

// NoRole says that there is no such role.
func NoRole(name string) error { return refuse(NotFound, "Role %s does not exist.", name) }

// PutRole gives what comes of a role by a request; old is nil where there is none. created tells that the request made it.
func PutRole(old *Role, req Role) (now Role, created bool, err error) {
	changes := !req.Grant.Empty() || !req.Revoke.Empty()
	switch {
	case req.Role == Root:
		return now, false, refuse(Forbidden, "Cannot modify role %s: is root role.", Root)
	case !changes && old != nil:
		return now, false, refuse(Conflict, "Role %s already exists.", req.Role)
	case !changes:
		return req, true, nil
	case old == nil:
		return now, false, NoRole(req.Role)
	}
	now = Role{Role: old.Role}
	for _, part := range []struct {
		what          string
		from          []string
		grant, revoke func(*Permissions) []string
		to            *[]string
	}{
		{"read", old.Permissions.KV.Read, reads, reads, &now.Permissions.KV.Read},
		{"write", old.Permissions.KV.Write, writes, writes, &now.Permissions.KV.Write},
	} {
		set := map[string]bool{}
		for _, p := range part.from {
			set[p] = true
		}
		for _, p := range part.grant(req.Grant) {
			if set[p] {
				return now, false, refuse(Conflict, "Granting duplicate %s permission %s", part.what, p)
			}
			set[p] = true
		}
		for _, p := range part.revoke(req.Revoke) {
			delete(set, p)
		}
		*part.to = sorted(set)
	}
	if reflect.DeepEqual(now, *old) {
		return now, false, refuse(Invalid, "Role not updated. Use grant/revoke to update the role.")
	}
	return now, false, nil
}

func reads(p *Permissions) []string {
	if p == nil {
		return nil
	}
	return p.KV.Read
}

func writes(p *Permissions) []string {
	if p == nil {
		return nil
	}
	return p.KV.Write
}

// DeleteRole refuses to delete what is not there, and root.
func DeleteRole(old *Role, name string) error {
	switch {
	case name == Root:
		return refuse(Forbidden, "Cannot modify role %s: is root role.", Root)
	case old == nil:
		return refuse(NotFound, "Role %s doesn't exist.", name)
	}
	return nil
}

// Enable refuses to enable what is enabled, and to lock everybody out.
func Enable(enabled bool, root *User) error {
	switch {
	case enabled:
		return refuse(Conflict, "already enabled")
	case root == nil:
		return refuse(Conflict, "No root user available, please create one")
	}
	return nil
}

// Disable refuses to disable what is disabled.
func Disable(enabled bool) error {
	if !enabled {
		return refuse(Conflict, "already disabled")
	}
	return nil
}

// All is a role that may read and write every key: root's, and guest's until it is changed.
func All(name string) Role {
	r := Role{Role: name}
	r.Permissions.KV.Read, r.Permissions.KV.Write = []string{"/*"}, []string{"/*"}
	return r
}

// May tells whether a role lets somebody read or write the key at path; below: and all below it.
func (r *Role) May(path string, write, below bool) bool {
	patterns := r.Permissions.KV.Read
	if write {
		patterns = r.Permissions.KV.Write
	}
	return r.Role == Root || slices.ContainsFunc(patterns, func(p string) bool { return match(p, path, below) })
}

// match tells whether a pattern, a path or the beginning of one with * behind, covers a path. All below a path takes the latter.
func match(pattern, path string, below bool) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, start)
	}
	return !below && pattern == path
}
