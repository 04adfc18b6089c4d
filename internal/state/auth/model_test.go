package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/storage/schema"
)

// disk keeps what a Store saves, by bucket and key.
type disk map[string][]byte

func (d disk) Put(b schema.Bucket, key, value []byte) { d[b.String()+"/"+string(key)] = value }
func (d disk) Delete(b schema.Bucket, key []byte)     { delete(d, b.String()+"/"+string(key)) }

// stored gives what a directory with these files would load.
func (d disk) stored() Stored {
	s := Stored{Enabled: d["auth/authEnabled"], Revision: d["auth/authRevision"]}
	for k, v := range d {
		switch {
		case len(k) > 9 && k[:9] == "authUsers":
			s.Users = append(s.Users, v)
		case len(k) > 9 && k[:9] == "authRoles":
			s.Roles = append(s.Roles, v)
		}
	}
	return s
}

// twin is the dumb model: what may be done is found by looking at every key.
type twin struct {
	enabled  bool
	revision uint64
	users    map[string]map[string]bool
	roles    map[string][]*authpb.Permission
}

const keys = "abcdef"

func newTwin() *twin {
	return &twin{revision: 1, users: map[string]map[string]bool{}, roles: map[string][]*authpb.Permission{}}
}

func (w *twin) may(c Caller, a Access) error {
	if !w.enabled {
		return nil
	}
	roles, known := w.users[c.User]
	switch {
	case a.Kind == Admin && c.User == "":
		return ErrUserEmpty
	case a.Kind == Admin && roles[RootRole]:
		return nil
	case a.Kind == Admin && !known:
		return ErrUserNotFound
	case a.Kind == Admin:
		return ErrDenied
	case c.Revision == 0:
		return ErrUserEmpty
	case a.Kind == Login:
		return nil
	case c.Revision < w.revision:
		return ErrOldRevision
	case !known:
		return ErrDenied
	case roles[RootRole]:
		return nil
	}
	// Keys of one letter stand for all: ranges in this test begin and end at them. Behind the last letter there is one more.
	for _, k := range keys + "z" {
		if key := []byte(string(k)); within(key, a.Key, a.End) && !w.reaches(roles, a.Kind, key) {
			return ErrDenied
		}
		if between := []byte(string(k) + "5"); within(between, a.Key, a.End) && !w.reaches(roles, a.Kind, between) {
			return ErrDenied
		}
	}
	return nil
}

func (w *twin) reaches(roles map[string]bool, kind Kind, key []byte) bool {
	for name := range roles {
		for _, p := range w.roles[name] {
			fits := p.PermType == authpb.Permission_READWRITE || p.PermType == authpb.Permission_READ == (kind == Read)
			if fits && within(key, p.Key, p.RangeEnd) {
				return true
			}
		}
	}
	return false
}

func within(key, from, to []byte) bool {
	switch {
	case len(to) == 0:
		return string(key) == string(from)
	case string(to) == "\x00":
		return string(key) >= string(from)
	}
	return string(key) >= string(from) && string(key) < string(to)
}

// pair runs one step on the store and on the twin.
type pair struct {
	t    *testing.T
	s    *Store
	d    disk
	twin *twin
	rng  *rand.Rand
}

func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(20) {
		t.Run(fmt.Sprintf("seed=%d", seed+round), func(t *testing.T) {
			p := &pair{t: t, s: New(), d: disk{}, twin: newTwin(), rng: rand.New(rand.NewPCG(seed+round, 1))}
			for range 400 {
				p.step()
				p.compare()
				if t.Failed() {
					return
				}
			}
		})
	}
}

func (p *pair) pick(from ...string) string { return from[p.rng.IntN(len(from))] }

func (p *pair) user() string { return p.pick("root", "tom", "eve", "") }
func (p *pair) role() string { return p.pick("root", "team", "crew", "") }

// ends gives a range that begins at a letter, and ends at a later one, with the same key, or never.
func (p *pair) ends() (key, end []byte) {
	i := p.rng.IntN(len(keys))
	switch p.rng.IntN(3) {
	case 0:
		return []byte{keys[i]}, nil
	case 1:
		return []byte{keys[i]}, []byte{0}
	}
	return []byte{keys[i]}, []byte{keys[i] + 1 + byte(p.rng.IntN(len(keys)-i))}
}

func (p *pair) step() {
	w, user, role := p.twin, p.user(), p.role()
	before := p.s.Now()
	was := before.Revision()
	var err, want error
	switch p.rng.IntN(10) {
	case 0:
		_, err = p.s.Enable(p.d)
		want = w.enable()
	case 1:
		if p.rng.IntN(4) == 0 {
			p.s.Disable(p.d)
			w.disable()
		}
	case 2:
		err = p.s.UserAdd(p.d, &pb.AuthUserAddRequest{Name: user, HashedPassword: base64.StdEncoding.EncodeToString([]byte("h"))}, nil)
		want = w.userAdd(user)
	case 3:
		err = p.s.UserDelete(p.d, &pb.AuthUserDeleteRequest{Name: user})
		want = w.userDelete(user)
	case 4, 5:
		err = p.s.UserGrantRole(p.d, &pb.AuthUserGrantRoleRequest{User: user, Role: role})
		want = w.grant(user, role)
	case 6:
		err = p.s.UserRevokeRole(p.d, &pb.AuthUserRevokeRoleRequest{Name: user, Role: role})
		want = w.revoke(user, role)
	case 7:
		err, want = p.changeRole(role)
	default:
		err, want = p.changePermissions(role)
	}
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		p.t.Fatalf("error %v, the twin's %v", err, want)
	}
	if before.Revision() != was {
		p.t.Fatal("a view that was given out has changed")
	}
}

func (p *pair) changeRole(role string) (err, want error) {
	if p.rng.IntN(3) > 0 {
		return p.s.RoleAdd(p.d, &pb.AuthRoleAddRequest{Name: role}), p.twin.roleAdd(role)
	}
	return p.s.RoleDelete(p.d, &pb.AuthRoleDeleteRequest{Role: role}), p.twin.roleDelete(role)
}

func (p *pair) changePermissions(role string) (err, want error) {
	key, end := p.ends()
	if p.rng.IntN(4) > 0 {
		perm := &authpb.Permission{PermType: authpb.Permission_Type(p.rng.IntN(3)), Key: key, RangeEnd: end}
		return p.s.RoleGrantPermission(p.d, &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: perm}), p.twin.permit(role, perm)
	}
	return p.s.RoleRevokePermission(p.d, &pb.AuthRoleRevokePermissionRequest{Role: role, Key: key, RangeEnd: end}), p.twin.forbid(role, key, end)
}

func (w *twin) enable() error {
	switch roles, ok := w.users["root"]; {
	case w.enabled:
	case !ok:
		return ErrRootUserMissing
	case !roles["root"]:
		return ErrRootRoleMissing
	}
	w.enabled = true
	return nil
}

func (w *twin) disable() {
	if w.enabled {
		w.enabled = false
		w.revision++
	}
}

func (w *twin) userAdd(name string) error {
	if name == "" {
		return ErrUserEmpty
	}
	if w.users[name] != nil {
		return ErrUserExists
	}
	w.users[name] = map[string]bool{}
	w.revision++
	return nil
}

func (w *twin) userDelete(name string) error {
	if w.enabled && name == "root" {
		return ErrInvalidManagement
	}
	if w.users[name] == nil {
		return ErrUserNotFound
	}
	delete(w.users, name)
	w.revision++
	return nil
}

func (w *twin) grant(user, role string) error {
	_, ok := w.roles[role]
	switch {
	case w.users[user] == nil:
		return ErrUserNotFound
	case !ok && role != "root":
		return ErrRoleNotFound
	case !w.users[user][role]:
		w.users[user][role] = true
		w.revision++
	}
	return nil
}

func (w *twin) revoke(user, role string) error {
	switch {
	case w.enabled && user == "root" && role == "root":
		return ErrInvalidManagement
	case w.users[user] == nil:
		return ErrUserNotFound
	case !w.users[user][role]:
		return ErrRoleNotGranted
	}
	delete(w.users[user], role)
	w.revision++
	return nil
}

func (w *twin) roleAdd(name string) error {
	if name == "" {
		return ErrRoleEmpty
	}
	if _, ok := w.roles[name]; ok {
		return ErrRoleExists
	}
	w.roles[name] = nil
	w.revision++
	return nil
}

func (w *twin) roleDelete(name string) error {
	if w.enabled && name == "root" {
		return ErrInvalidManagement
	}
	if _, ok := w.roles[name]; !ok {
		return ErrRoleNotFound
	}
	delete(w.roles, name)
	for _, roles := range w.users {
		delete(roles, name)
	}
	w.revision++
	return nil
}

func same(p *authpb.Permission, key, end []byte) bool {
	return string(p.Key) == string(key) && string(p.RangeEnd) == string(end)
}

// permit: of a key's permissions the first may be another's, which then stays beside the new one.
func (w *twin) permit(name string, perm *authpb.Permission) error {
	all, ok := w.roles[name]
	if !ok {
		return ErrRoleNotFound
	}
	w.revision++
	i := slices.IndexFunc(all, func(p *authpb.Permission) bool { return string(p.Key) >= string(perm.Key) })
	if i >= 0 && same(all[i], perm.Key, perm.RangeEnd) {
		all[i] = perm
		return nil
	}
	all = append(all, perm)
	slices.SortStableFunc(all, func(a, b *authpb.Permission) int { return slices.Compare(a.Key, b.Key) })
	w.roles[name] = all
	return nil
}

func (w *twin) forbid(name string, key, end []byte) error {
	all, ok := w.roles[name]
	if !ok {
		return ErrRoleNotFound
	}
	left := slices.DeleteFunc(slices.Clone(all), func(p *authpb.Permission) bool { return same(p, key, end) })
	if len(left) == len(all) {
		return ErrPermissionNotGranted
	}
	w.roles[name] = left
	w.revision++
	return nil
}

// compare asks both for everything there is to see, and the store that a restart would have.
func (p *pair) compare() {
	again := New()
	if err := again.Load(p.d.stored()); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range []*View{p.s.Now(), again.Now()} {
		if v.Enabled() != p.twin.enabled || v.Revision() != p.twin.revision {
			p.t.Fatalf("enabled %v at %d, the twin %v at %d", v.Enabled(), v.Revision(), p.twin.enabled, p.twin.revision)
		}
		if want := slices.Sorted(maps.Keys(p.twin.users)); !slices.Equal(v.Users(), want) {
			p.t.Fatalf("users %q, the twin's %q", v.Users(), want)
		}
		if want := slices.Sorted(maps.Keys(p.twin.roles)); !slices.Equal(v.Roles(), want) {
			p.t.Fatalf("roles %q, the twin's %q", v.Roles(), want)
		}
		for name, roles := range p.twin.users {
			if got, err := v.UserRoles(name); err != nil || !slices.Equal(got, slices.Sorted(maps.Keys(roles))) {
				p.t.Fatalf("roles of %s: %q, %v; the twin's %v", name, got, err, roles)
			}
		}
	}
	for range 20 {
		c := Caller{User: p.user(), Revision: p.twin.revision - 1 + uint64(p.rng.IntN(3))}
		a := Access{Kind: Kind(1 + p.rng.IntN(4))}
		a.Key, a.End = p.ends()
		if got, want := p.s.Now().May(c, a), p.twin.may(c, a); !errors.Is(got, want) || (got == nil) != (want == nil) {
			p.t.Fatalf("%+v asks for %d %q..%q: %v, the twin %v; roles %v of %v", c, a.Kind, a.Key, a.End, got, want, p.twin.roles, p.twin.users)
		}
	}
}
