package auth

import (
	"encoding/base64"
	"errors"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/storage/schema"
)

// team gives a state, enabled, in which root is root and tom has what perms say.
func team(t testing.TB, perms ...*authpb.Permission) *Store {
	t.Helper()
	s, d := New(), disk{}
	hash := func(p string) ([]byte, error) { return []byte("hash of " + p), nil }
	steps := []error{
		s.UserAdd(d, &pb.AuthUserAddRequest{Name: "root", Password: "p"}, hash),
		s.UserGrantRole(d, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}),
		s.UserAdd(d, &pb.AuthUserAddRequest{Name: "tom", Options: &authpb.UserAddOptions{NoPassword: true}}, hash),
		s.RoleAdd(d, &pb.AuthRoleAddRequest{Name: "team"}),
		s.UserGrantRole(d, &pb.AuthUserGrantRoleRequest{User: "tom", Role: "team"}),
	}
	for _, p := range perms {
		steps = append(steps, s.RoleGrantPermission(d, &pb.AuthRoleGrantPermissionRequest{Name: "team", Perm: p}))
	}
	_, err := s.Enable(d)
	if err := errors.Join(append(steps, err)...); err != nil {
		t.Fatal(err)
	}
	return s
}

func perm(kind authpb.Permission_Type, key, end string) *authpb.Permission {
	return &authpb.Permission{PermType: kind, Key: []byte(key), RangeEnd: []byte(end)}
}

// TestMay asks the one function that decides.
func TestMay(t *testing.T) {
	v := team(t,
		perm(authpb.Permission_READ, "a", "c"), perm(authpb.Permission_READ, "c", "e"), // which touch
		perm(authpb.Permission_READ, "k", ""), perm(authpb.Permission_READWRITE, "m", "n"), perm(authpb.Permission_WRITE, "x", "\x00"),
	).Now()
	now := v.Revision()
	tom, root := Caller{"tom", now}, Caller{"root", now}
	for _, x := range []struct {
		by       Caller
		kind     Kind
		key, end string
		want     error
	}{
		{Caller{}, Login, "", "", ErrUserEmpty},
		{tom, Login, "", "", nil},
		{Caller{"gone", 1}, Login, "", "", nil}, // a certificate may name nobody
		{Caller{}, Admin, "", "", ErrUserEmpty},
		{Caller{"", now}, Admin, "", "", ErrUserEmpty},
		{tom, Admin, "", "", ErrDenied},
		{Caller{"gone", now}, Admin, "", "", ErrUserNotFound},
		{Caller{"root", 1}, Admin, "", "", nil},
		{root, Denied, "", "", ErrDenied},
		{root, Kind(99), "", "", ErrDenied},
		{Caller{}, Read, "a", "", ErrUserEmpty},
		{Caller{"root", now - 1}, Read, "a", "", ErrOldRevision},
		{Caller{"tom", now + 1}, Read, "a", "", nil}, // this member is behind
		{Caller{"gone", now}, Read, "a", "", ErrDenied},
		{root, Write, "anything", "\x00", nil},
		{tom, Read, "a", "e", nil},
		{tom, Read, "a", "e\x00", ErrDenied},
		{tom, Read, "a", "\x00", ErrDenied},
		{tom, Read, "b", "", nil},
		{tom, Read, "e", "", ErrDenied},
		{tom, Read, "b", "a", nil}, // holds no key: as its first
		{tom, Read, "k", "", nil},
		{tom, Read, "k", "k\x00", nil},
		{tom, Read, "k", "\x00", ErrDenied},
		{tom, Read, "k\x00", "", ErrDenied},
		{tom, Read, "\x00", "\x00", ErrDenied},
		{tom, Write, "a", "", ErrDenied},
		{tom, Write, "m5", "n", nil},
		{tom, Write, "x", "\x00", nil},
		{tom, Write, "w", "\x00", ErrDenied},
		{tom, Write, "x", "y", nil},
		{tom, Read, "x", "y", ErrDenied},
	} {
		if err := v.May(x.by, Access{x.kind, []byte(x.key), []byte(x.end)}); !errors.Is(err, x.want) || (err == nil) != (x.want == nil) {
			t.Errorf("%+v, kind %d, %q..%q: %v, want %v", x.by, x.kind, x.key, x.end, err, x.want)
		}
	}
	if err := none.May(Caller{}, Access{Kind: Admin}); err != nil {
		t.Error("while auth is not enabled:", err)
	}
}

// TestMayCostsNoMemory: it is asked on every put.
func TestMayCostsNoMemory(t *testing.T) {
	v := team(t, perm(authpb.Permission_READWRITE, "a", "c")).Now()
	c, a := Caller{"tom", v.Revision()}, Access{Write, []byte("b"), nil}
	if n := testing.AllocsPerRun(100, func() {
		if v.May(c, a) != nil {
			t.Fatal("denied")
		}
	}); n != 0 {
		t.Error(n, "allocations")
	}
}

// TestAskedAtOnce: many goroutines ask one view for the first time.
func TestAskedAtOnce(t *testing.T) {
	v := team(t, perm(authpb.Permission_READWRITE, "a", "c")).Now()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := v.May(Caller{"tom", v.Revision()}, Access{Write, []byte("b"), nil}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestPasswords(t *testing.T) {
	s, d := team(t), disk{}
	hash := func(p string) ([]byte, error) { return []byte("hash of " + p), nil }
	look := func(user, want string, wantErr error) {
		t.Helper()
		h, err := s.Now().Password(user)
		if string(h) != want || !errors.Is(err, wantErr) {
			t.Errorf("%s: %q %v, want %q %v", user, h, err, want, wantErr)
		}
	}
	look("root", "hash of p", nil)
	look("tom", "", ErrNoPasswordUser)
	look("gone", "", ErrFailed)
	change := func(name, plain, hashed string) error {
		return s.UserChangePassword(d, &pb.AuthUserChangePasswordRequest{Name: name, Password: plain, HashedPassword: hashed}, hash)
	}
	if err := errors.Join(change("root", "", base64.StdEncoding.EncodeToString([]byte("h2"))), change("tom", "x", "")); err != nil {
		t.Fatal(err)
	}
	look("root", "h2", nil)
	look("tom", "", ErrNoPasswordUser)
	if err := change("root", "", "not base64"); !errors.Is(err, ErrNoPasswordUser) {
		t.Error(err)
	}
	if err := change("root", "new", ""); err != nil { // an entry of 3.4
		t.Error(err)
	}
	look("root", "hash of new", nil)
	if err := s.Now().MayHaveToken("tom"); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	s.Disable(d)
	look("root", "", ErrNotEnabled)
}

func TestLoadRefusesDamage(t *testing.T) {
	for name, s := range map[string]Stored{
		"revision": {Revision: []byte{1}},
		"user":     {Users: [][]byte{{0xff}}},
		"role":     {Roles: [][]byte{{0xff}}},
	} {
		if err := New().Load(s); err == nil {
			t.Errorf("a damaged %s was read", name)
		}
	}
	s := New()
	if err := s.Load(Stored{}); err != nil || s.Now().Revision() != 1 || s.Now().Enabled() {
		t.Error("a directory without any:", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte{1}, schema.PutUint64(7), []byte("\x0a\x01u"), []byte("\x0a\x01r"))
	f.Fuzz(func(t *testing.T, enabled, rev, user, role []byte) {
		s := New()
		if s.Load(Stored{Enabled: enabled, Revision: rev, Users: [][]byte{user}, Roles: [][]byte{role}}) == nil {
			_ = s.Now().May(Caller{string(user), 1}, Access{Kind: Read, Key: role})
		}
	})
}
