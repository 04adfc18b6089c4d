package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/kit/wire"
	"keelson/internal/state/auth"
	"keelson/internal/state/lease"
)

func bearer(token string) context.Context {
	return auth.With(context.Background(), &auth.Credentials{Token: token, HasToken: true})
}

func login(t testing.TB, m *Member, user, password string) context.Context {
	t.Helper()
	r, err := m.Authenticate(context.Background(), &pb.AuthenticateRequest{Name: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return bearer(r.Token)
}

// enableAuth makes root, and tom, who may read and write from a to b, and enables auth.
func enableAuth(t testing.TB, m *Member) {
	t.Helper()
	ctx := context.Background()
	var all []error
	add := func(_ any, err error) { all = append(all, err) }
	add(m.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "r"}))
	add(m.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}))
	add(m.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "tom", Password: "t"}))
	add(m.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "team"}))
	add(m.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "team", Perm: &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("a"), RangeEnd: []byte("b")}}))
	add(m.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "tom", Role: "team"}))
	add(m.AuthEnable(ctx, &pb.AuthEnableRequest{}))
	if err := errors.Join(all...); err != nil {
		t.Fatal(err)
	}
}

// calls are what tom may do with key, if he may do anything with it.
func calls(m *Member, key string) map[string]func(context.Context) error {
	k := []byte(key)
	get := &pb.RangeRequest{Key: k}
	op := func(r *pb.RangeRequest) []*pb.RequestOp {
		return []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: r}}}
	}
	return map[string]func(context.Context) error{
		"range": func(ctx context.Context) error { _, err := m.Range(ctx, get); return err },
		"serializable": func(ctx context.Context) error {
			_, err := m.Range(ctx, &pb.RangeRequest{Key: k, Serializable: true})
			return err
		},
		"stream": func(ctx context.Context) error {
			return m.RangeStream(ctx, get, func(*wire.RangeStreamResponse) error { return nil })
		},
		"put": func(ctx context.Context) error { _, err := m.Put(ctx, &pb.PutRequest{Key: k}); return err },
		"delete": func(ctx context.Context) error {
			_, err := m.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: k})
			return err
		},
		"read txn": func(ctx context.Context) error {
			_, err := m.Txn(ctx, &pb.TxnRequest{Success: op(get), Failure: op(get)})
			return err
		},
		"compare": func(ctx context.Context) error {
			_, err := m.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{{Key: k}}, Success: op(&pb.RangeRequest{Key: []byte("a")})})
			return err
		},
		"watch": func(ctx context.Context) error { _, err := m.MayWatch(ctx, k, nil); return err },
	}
}

func TestAuth(t *testing.T) {
	dir := t.TempDir()
	m := start(t, testConfig(t, dir, "--bcrypt-cost", "4", "--auth-token-ttl", "600"))
	eventually(t, m, "the first versions", at(m, "3.7.0", "3.7.0")) // else the member's own entry may come where none is to come
	put(t, m, "z", "secret")
	enableAuth(t, m)
	root, tom := login(t, m, "root", "r"), login(t, m, "tom", "t")
	for key, users := range map[string]map[error]context.Context{
		"a": {nil: tom, auth.ErrUserEmpty: context.Background(), auth.ErrInvalidToken: bearer("x.1")},
		"z": {auth.ErrDenied: tom, nil: root},
	} {
		for want, ctx := range users {
			for name, call := range calls(m, key) {
				if err := call(ctx); !errors.Is(err, want) || (err == nil) != (want == nil) {
					t.Errorf("%s of %s: %v, want %v", name, key, err, want)
				}
			}
		}
	}
	for name, call := range calls(m, "a") {
		if err := call(auth.With(context.Background(), &auth.Credentials{CommonName: "tom", Certified: true})); err != nil {
			t.Error("by a certificate's name:", name, err)
		}
	}
	for _, r := range []*pb.AuthenticateRequest{{Name: "root", Password: "wrong"}, {Name: "nobody"}, {Name: "tom"}} {
		if _, err := m.Authenticate(context.Background(), r); !errors.Is(err, auth.ErrFailed) {
			t.Error(r, err)
		}
	}
	before := m.machine.applied()
	for _, ctx := range []context.Context{context.Background(), tom, bearer("x.1")} {
		if _, err := m.Put(ctx, &pb.PutRequest{Key: []byte("z")}); err == nil {
			t.Error("z was put")
		}
	}
	if now := m.machine.applied(); now != before {
		t.Errorf("refused puts made the log %d entries longer", now-before)
	}
	for name, err := range map[string]error{
		"add":      errOf(m.MemberAdd(tom, &pb.MemberAddRequest{PeerURLs: []string{"http://h:1"}})),
		"remove":   errOf(m.MemberRemove(tom, &pb.MemberRemoveRequest{ID: 1})),
		"update":   errOf(m.MemberUpdate(tom, &pb.MemberUpdateRequest{ID: 1, PeerURLs: []string{"http://h:1"}})),
		"promote":  errOf(m.MemberPromote(tom, &pb.MemberPromoteRequest{ID: 1})),
		"here":     errOf(m.PromoteHere(tom, 1)),
		"user add": errOf(m.UserAdd(tom, &pb.AuthUserAddRequest{Name: "x", Password: "x"})),
		"password": errOf(m.UserChangePassword(tom, &pb.AuthUserChangePasswordRequest{Name: "tom", Password: "x"})),
		"disable":  errOf(m.AuthDisable(tom, &pb.AuthDisableRequest{})),
	} {
		if !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop(t, m)
	passwordChanges(t, dir, tom)
}

// passwordChanges starts a member again on dir, where tom had a token.
func passwordChanges(t *testing.T, dir string, old context.Context) {
	t.Helper()
	m := start(t, testConfig(t, dir, "--bcrypt-cost", "4"))
	defer stop(t, m)
	if _, err := m.Put(old, &pb.PutRequest{Key: []byte("a")}); !errors.Is(err, auth.ErrInvalidToken) {
		t.Error("an old token after a restart:", err)
	}
	tom, root := login(t, m, "tom", "t"), login(t, m, "root", "r")
	if _, err := m.Put(tom, &pb.PutRequest{Key: []byte("a")}); err != nil {
		t.Error(err)
	}
	if _, err := m.UserChangePassword(root, &pb.AuthUserChangePasswordRequest{Name: "tom", Password: "t2"}); err != nil {
		t.Error(err)
	}
	if _, err := m.Put(tom, &pb.PutRequest{Key: []byte("a")}); !errors.Is(err, auth.ErrInvalidToken) {
		t.Error("a token from before the password changed:", err)
	}
	if _, err := m.Authenticate(context.Background(), &pb.AuthenticateRequest{Name: "tom", Password: "t"}); !errors.Is(err, auth.ErrFailed) {
		t.Error("the old password:", err)
	}
	login(t, m, "tom", "t2")
}

func errOf[T any](_ T, err error) error { return err }

// TestLeasesUnderAuth: keys decide about the lease that they are attached to, and expiry is nobody's to forbid.
func TestLeasesUnderAuth(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir(), "--bcrypt-cost", "4"))
	defer stop(t, m)
	enableAuth(t, m)
	root, tom := login(t, m, "root", "r"), login(t, m, "tom", "t")
	for id, key := range map[int64]string{1: "a", 2: "z"} {
		if _, err := m.LeaseGrant(root, &pb.LeaseGrantRequest{ID: id, TTL: 600}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Put(root, &pb.PutRequest{Key: []byte(key), Lease: id}); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[int64]error{1: nil, 2: auth.ErrDenied} {
		for name, err := range map[string]error{
			"renew": errOf(m.LeaseRenew(tom, id)),
			"keys":  errOf(m.LeaseTimeToLive(tom, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})),
			"put":   errOf(m.Put(tom, &pb.PutRequest{Key: []byte("a2"), Lease: id})),
		} {
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s of lease %d: %v, want %v", name, id, err, want)
			}
		}
	}
	if _, err := m.LeaseRenew(context.Background(), 1); !errors.Is(err, auth.ErrUserEmpty) {
		t.Error(err)
	}
	if _, err := m.LeaseTimeToLive(tom, &pb.LeaseTimeToLiveRequest{ID: 2}); err != nil {
		t.Error("the time without the keys:", err)
	}
	if _, err := m.LeaseLeases(tom, &pb.LeaseLeasesRequest{}); !errors.Is(err, auth.ErrDenied) {
		t.Error(err)
	}
	if r, err := m.LeaseLeases(root, &pb.LeaseLeasesRequest{}); err != nil || len(r.Leases) != 2 {
		t.Error(r, err)
	}
	if _, err := m.LeaseRevoke(tom, &pb.LeaseRevokeRequest{ID: 2}); !errors.Is(err, auth.ErrDenied) {
		t.Error(err)
	}
	for id, key := range map[int64]string{3: "a", 4: "z"} {
		begun := time.Now()
		if _, err := m.LeaseGrant(root, &pb.LeaseGrantRequest{ID: id, TTL: 1}); err != nil {
			t.Fatal(err)
		}
		// Where the machine took longer than its second, the lease may be gone.
		if _, err := m.Put(root, &pb.PutRequest{Key: []byte(key), Lease: id}); err != nil && (!errors.Is(err, lease.ErrNotFound) || time.Since(begun) < time.Second) {
			t.Fatal(err)
		}
	}
	deadline := time.After(patience)
	for id := range int64(2) {
		select {
		case <-deadline:
			t.Fatal("the leases do not expire")
		case <-m.data.state.Leases.WaitRevoked(id + 3):
		}
	}
	if n := m.data.state.Leases.Len(); n != 2 {
		t.Errorf("%d leases are left", n)
	}
}

// TestReadsSeeOneMoment: tom may read s only while it isn't there. Whatever he reads, he never sees it.
func TestReadsSeeOneMoment(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir(), "--bcrypt-cost", "4"))
	defer stop(t, m)
	enableAuth(t, m)
	root, tom := login(t, m, "root", "r"), login(t, m, "tom", "t")
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				r, err := m.Range(tom, &pb.RangeRequest{Key: []byte("s"), Serializable: true})
				if err == nil && len(r.KVs) > 0 {
					t.Error("tom has seen s")
					return
				}
			}
		})
	}
	perm := &authpb.Permission{PermType: authpb.Permission_READ, Key: []byte("s")}
	for range 100 {
		errs := []error{
			errOf(m.Put(root, &pb.PutRequest{Key: []byte("s"), Value: []byte("secret")})),
			errOf(m.DeleteRange(root, &pb.DeleteRangeRequest{Key: []byte("s")})),
			errOf(m.RoleGrantPermission(root, &pb.AuthRoleGrantPermissionRequest{Name: "team", Perm: perm})),
			errOf(m.RoleRevokePermission(root, &pb.AuthRoleRevokePermissionRequest{Role: "team", Key: []byte("s")})),
		}
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	readers.Wait()
}

// TestSignedTokens: one names the auth revision that it was made at, and is too old after any change.
func TestSignedTokens(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "--bcrypt-cost", "4", "--auth-token", "jwt,sign-method=HS256,priv-key=key,ttl=1m")
	m, err := New(cfg, Deps{
		FS: vfs.OS, Clock: clock.System, Logger: testLogger(t), Caller: alone{}, Network: func(NetworkParams) Network { return alone{} },
		ReadFile: func(name string) ([]byte, error) { return []byte("a key of HS256, of 32 bytes: " + name), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	<-m.Ready()
	defer stop(t, m)
	enableAuth(t, m)
	root, tom := login(t, m, "root", "r"), login(t, m, "tom", "t")
	if _, err := m.Put(tom, &pb.PutRequest{Key: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	still, err := m.MayWatch(tom, []byte("a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.RoleAdd(root, &pb.AuthRoleAddRequest{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls(m, "a") {
		if err := call(tom); !errors.Is(err, auth.ErrOldRevision) {
			t.Errorf("%s with an old token: %v", name, err)
		}
	}
	if err := still(); err != nil {
		t.Error("a watch that goes on:", err)
	}
	if _, err := m.RoleDelete(root, &pb.AuthRoleDeleteRequest{Role: "team"}); err != nil { // root's may be old
		t.Fatal(err)
	}
	if err := still(); !errors.Is(err, auth.ErrDenied) {
		t.Error("a watch of who may not read any more:", err)
	}
	if _, err := m.Put(bearer("forged"), &pb.PutRequest{Key: []byte("a")}); !errors.Is(err, auth.ErrInvalidToken) {
		t.Error(err)
	}
}

func TestBadAuthToken(t *testing.T) {
	for _, text := range []string{"none", "jwt", "jwt,sign-method=x"} {
		cfg := testConfig(t, t.TempDir(), "--auth-token="+text)
		if _, err := New(cfg, Deps{FS: vfs.OS, Clock: clock.System, Logger: testLogger(t)}); err == nil {
			t.Errorf("--auth-token=%s was taken", text)
		}
	}
	if c := bcryptCost(&config.Config{Auth: config.Auth{BcryptCost: 99}}); c != 10 {
		t.Errorf("a cost of 99 makes %d", c)
	}
}

// TestLogKeepsTokens: what the log shows of an entry that was slow or failed is of no use to who reads it.
func TestLogKeepsTokens(t *testing.T) {
	got := loggable(&pb.InternalRaftRequest{Authenticate: &pb.InternalAuthenticateRequest{Name: "tom", Password: "pass", SimpleToken: "abcdef"}})
	if strings.Contains(got, "abcdef") || strings.Contains(got, "pass") || !strings.Contains(got, "tom") {
		t.Error(got)
	}
	got = loggable(&pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{Name: "tom", Password: "pass", HashedPassword: "hashed"}})
	if strings.Contains(got, "pass") || strings.Contains(got, "hashed") {
		t.Error(got)
	}
}

func TestTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var forgot []string
		ts := newTokens(clock.System, time.Minute, func(user string) { forgot = append(forgot, user) })
		a, b := ts.Assign("tom", "a", 7), ts.Assign("eve", "b", 8)
		if a != "a.7" {
			t.Error(a)
		}
		time.Sleep(50 * time.Second)
		if user, ok := ts.user(a); !ok || user != "tom" {
			t.Error("a token in time:", user, ok)
		}
		time.Sleep(50 * time.Second)
		if _, ok := ts.user(a); !ok {
			t.Error("a token that was used a while ago")
		}
		if _, ok := ts.user(b); ok {
			t.Error("a token that was not used")
		}
		ts.Assign("tom", "c", 9)
		if len(ts.byTok) != 2 {
			t.Errorf("%d tokens are kept", len(ts.byTok))
		}
		ts.Drop("tom")
		if _, ok := ts.user(a); ok || len(forgot) != 1 {
			t.Error("a token of a user who is gone", forgot)
		}
		if _, ok := ts.user(ts.Assign("tom", "d", 10)); !ok {
			t.Error("a new token of the same user")
		}
		ts.DropAll()
		if _, ok := ts.user("d.10"); ok {
			t.Error("a token after all were dropped")
		}
	})
}

// TestTokenNumbers: what is no token is told at once; one of an entry that is not here yet is waited for.
func TestTokenNumbers(t *testing.T) {
	ts := newTokens(clock.System, time.Minute, func(string) {})
	waited := uint64(0)
	k := &simpleKind{known: ts, timeout: time.Minute, applied: func(_ context.Context, index uint64) error {
		waited = index
		ts.Assign("tom", "late", index-1)
		return nil
	}}
	for _, text := range []string{"", "x", "x.", ".y", "x.-1", "x.18446744073709551615", "x.99999999999999999999"} {
		if _, _, ok := k.verify(t.Context(), text); ok || waited != 0 {
			t.Errorf("%q: %v, waited for %d", text, ok, waited)
		}
	}
	if user, _, ok := k.verify(t.Context(), "late.41"); !ok || user != "tom" || waited != 42 {
		t.Error(user, ok, waited)
	}
}

type countingBytes byte

func (c *countingBytes) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}

func TestPrefixes(t *testing.T) {
	k := &simpleKind{rand: new(countingBytes)}
	seen := map[string]bool{}
	for range 30 {
		p, err := k.prefix()
		if err != nil || len(p) != prefixLetters {
			t.Fatal(p, err)
		}
		for _, c := range p {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				t.Errorf("%q is no letter", c)
			}
			seen[fmt.Sprint(c)] = true
		}
	}
	if len(seen) != len(letters) {
		t.Errorf("%d letters of %d come", len(seen), len(letters))
	}
}
