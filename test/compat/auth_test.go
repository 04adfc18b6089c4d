package compat

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
	"keelson/test/process"
)

// authMethodOf gives the method of Auth that takes a request, and an empty answer of it.
func authMethodOf(r proto.Message) (method string, reply proto.Message) {
	switch r.(type) {
	case *pb.AuthEnableRequest:
		return pb.Auth_AuthEnable_FullMethodName, new(pb.AuthEnableResponse)
	case *pb.AuthDisableRequest:
		return pb.Auth_AuthDisable_FullMethodName, new(pb.AuthDisableResponse)
	case *pb.AuthStatusRequest:
		return pb.Auth_AuthStatus_FullMethodName, new(pb.AuthStatusResponse)
	case *pb.AuthenticateRequest:
		return pb.Auth_Authenticate_FullMethodName, new(pb.AuthenticateResponse)
	case *pb.AuthUserAddRequest:
		return pb.Auth_UserAdd_FullMethodName, new(pb.AuthUserAddResponse)
	case *pb.AuthUserGetRequest:
		return pb.Auth_UserGet_FullMethodName, new(pb.AuthUserGetResponse)
	case *pb.AuthUserListRequest:
		return pb.Auth_UserList_FullMethodName, new(pb.AuthUserListResponse)
	case *pb.AuthUserDeleteRequest:
		return pb.Auth_UserDelete_FullMethodName, new(pb.AuthUserDeleteResponse)
	case *pb.AuthUserChangePasswordRequest:
		return pb.Auth_UserChangePassword_FullMethodName, new(pb.AuthUserChangePasswordResponse)
	case *pb.AuthUserGrantRoleRequest:
		return pb.Auth_UserGrantRole_FullMethodName, new(pb.AuthUserGrantRoleResponse)
	case *pb.AuthUserRevokeRoleRequest:
		return pb.Auth_UserRevokeRole_FullMethodName, new(pb.AuthUserRevokeRoleResponse)
	case *pb.AuthRoleAddRequest:
		return pb.Auth_RoleAdd_FullMethodName, new(pb.AuthRoleAddResponse)
	case *pb.AuthRoleGetRequest:
		return pb.Auth_RoleGet_FullMethodName, new(pb.AuthRoleGetResponse)
	case *pb.AuthRoleListRequest:
		return pb.Auth_RoleList_FullMethodName, new(pb.AuthRoleListResponse)
	case *pb.AuthRoleDeleteRequest:
		return pb.Auth_RoleDelete_FullMethodName, new(pb.AuthRoleDeleteResponse)
	case *pb.AuthRoleGrantPermissionRequest:
		return pb.Auth_RoleGrantPermission_FullMethodName, new(pb.AuthRoleGrantPermissionResponse)
	case *pb.AuthRoleRevokePermissionRequest:
		return pb.Auth_RoleRevokePermission_FullMethodName, new(pb.AuthRoleRevokePermissionResponse)
	}
	return "", nil
}

// authScript is a program of calls that several users make on a pair, while who may do what changes.
type authScript struct {
	*generator
	pair *pair
	// tokens are the users' newest, of each side: a user without one says nothing.
	tokens map[string]map[*side]string
}

func (p *authScript) name() string { return pick(p.generator, "root", "tom", "tom", "eve", "eve", "") }
func (p *authScript) role() string {
	return pick(p.generator, "root", "team", "team", "crew", "crew", "")
}

// span gives a range over few keys, so that permissions and requests meet.
func (p *authScript) span() (key, end []byte) {
	const ends = "abcdef"
	i := p.r.IntN(len(ends) - 1)
	switch key = []byte{ends[i]}; p.r.IntN(5) {
	case 0, 1:
		return key, nil
	case 2:
		return key, []byte{0}
	case 3:
		return key, []byte{ends[i+p.r.IntN(len(ends)-i)]}
	}
	return key, []byte{ends[i+1+p.r.IntN(len(ends)-i-1)]}
}

// manage is a change of users, roles or permissions, or a look at them.
func (p *authScript) manage() proto.Message {
	key, end := p.span()
	switch p.r.IntN(16) {
	case 0, 1:
		return &pb.AuthUserAddRequest{Name: p.name(), Password: "pw", Options: pick(p.generator, nil, &authpb.UserAddOptions{NoPassword: p.chance(50)})}
	case 2:
		return &pb.AuthUserDeleteRequest{Name: p.name()}
	case 3:
		return &pb.AuthUserChangePasswordRequest{Name: p.name(), Password: pick(p.generator, "pw", "pw", "")}
	case 4, 5:
		return &pb.AuthUserGrantRoleRequest{User: p.name(), Role: p.role()}
	case 6:
		return &pb.AuthUserRevokeRoleRequest{Name: p.name(), Role: p.role()}
	case 7:
		return &pb.AuthRoleAddRequest{Name: p.role()}
	case 8:
		return &pb.AuthRoleDeleteRequest{Role: p.role()}
	case 9, 10, 11:
		perm := &authpb.Permission{PermType: authpb.Permission_Type(p.r.IntN(3)), Key: key, RangeEnd: end}
		return &pb.AuthRoleGrantPermissionRequest{Name: p.role(), Perm: pick(p.generator, perm, perm, perm, perm, nil, &authpb.Permission{})}
	case 12:
		return &pb.AuthRoleRevokePermissionRequest{Role: p.role(), Key: key, RangeEnd: end}
	case 13:
		return pick[proto.Message](p.generator, &pb.AuthUserGetRequest{Name: p.name()}, &pb.AuthUserListRequest{})
	case 14:
		return pick[proto.Message](p.generator, &pb.AuthRoleGetRequest{Role: p.role()}, &pb.AuthRoleListRequest{})
	}
	return pick[proto.Message](p.generator, &pb.AuthStatusRequest{}, &pb.AuthEnableRequest{}, &pb.AuthEnableRequest{}, &pb.AuthDisableRequest{})
}

// access is a call about keys and leases.
func (p *authScript) access() proto.Message {
	key, end := p.span()
	lease := pick[int64](p.generator, 0, 0, 1, 2, 3)
	switch p.r.IntN(10) {
	case 0, 1:
		return &pb.PutRequest{Key: key, Value: []byte("v"), Lease: lease, PrevKv: p.chance(30)}
	case 2, 3:
		return &pb.RangeRequest{Key: key, RangeEnd: end, Serializable: p.chance(50)}
	case 4:
		return &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: p.chance(50)}
	case 5, 6:
		return p.transaction(0)
	case 7:
		return pick[proto.Message](p.generator, &pb.LeaseGrantRequest{ID: 1 + int64(p.r.IntN(3)), TTL: 1000}, &pb.LeaseRevokeRequest{ID: lease})
	case 8:
		return pick[proto.Message](p.generator, &pb.LeaseTimeToLiveRequest{ID: lease, Keys: p.chance(70)}, &pb.LeaseLeasesRequest{})
	}
	return pick[proto.Message](p.generator,
		&pb.CompactionRequest{Revision: 1}, &pb.StatusRequest{}, &pb.MemberListRequest{Linearizable: p.chance(50)}, &pb.HashKVRequest{}, &pb.DefragmentRequest{},
		&pb.MoveLeaderRequest{TargetID: 5}, &pb.DowngradeRequest{Version: "3.1"}, &pb.MemberAddRequest{PeerURLs: pick(p.generator, nil, []string{"bad"})},
		&pb.MemberRemoveRequest{ID: 5}, &pb.MemberUpdateRequest{ID: 5, PeerURLs: []string{"http://h:1"}}, &pb.MemberPromoteRequest{ID: 5},
		&lockpb.UnlockRequest{Key: key}, &electionpb.LeaderRequest{Name: []byte("e")}, &electionpb.ResignRequest{Leader: &electionpb.LeaderKey{Key: key, Rev: 1, Lease: 1}}, // without a lease etcd grants one
		&pb.AlarmRequest{Action: pb.AlarmRequest_AlarmAction(p.r.IntN(3)), MemberID: 5, Alarm: pb.AlarmType(p.r.IntN(3))},
		&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 5, Alarm: pb.AlarmType(1 + p.r.IntN(2))},
	)
}

// transaction has compares and both branches, and others nested in them.
func (p *authScript) transaction(depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	if p.chance(50) {
		key, end := p.span()
		t.Compare = []*pb.Compare{{Key: key, RangeEnd: end, Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{}}}
	}
	for _, branch := range []*[]*pb.RequestOp{&t.Success, &t.Failure} {
		for range p.r.IntN(3 - depth) {
			*branch = append(*branch, p.op(depth))
		}
	}
	return t
}

func (p *authScript) op(depth int) *pb.RequestOp {
	key, end := p.span()
	switch n := p.r.IntN(4); {
	case n == 0 && depth < 2:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: p.transaction(depth + 1)}}
	case n == 1:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
			Key: fmt.Appendf(key, "%d", p.r.IntN(100_000)), PrevKv: p.chance(30), Lease: pick[int64](p.generator, 0, 0, 1, 2)}}}
	case n == 2 && depth == 0 && p.chance(20):
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, PrevKv: p.chance(50)}}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, RangeEnd: end}}}
}

// as is a side as a user sees it.
func (p *authScript) as(s *side, user string) *side {
	x := *s
	if token, ok := p.tokens[user][s]; ok {
		x.ctx = metadata.AppendToOutgoingContext(s.ctx, pick(&generator{r: rand.New(rand.NewPCG(uint64(len(p.pair.asked)), 0))}, "token", "authorization"), token)
	}
	return &x
}

func (p *authScript) ask(user string, r proto.Message) answer {
	p.pair.t.Helper()
	return first(p.pair.both(user+" asks: "+describe(r), func(s *side) []answer { return []answer{p.as(s, user).call(r)} }))
}

// login takes a token on both sides. A wrong password, or none, is no reason to forget the last one.
func (p *authScript) login(user, password string) {
	p.pair.t.Helper()
	got := map[*side]string{}
	tokens := make(chan func(), 2)
	p.pair.both("login of "+user+" with "+password, func(s *side) []answer {
		a := s.call(&pb.AuthenticateRequest{Name: user, Password: password})
		token := ""
		if r, ok := a.msg.(*pb.AuthenticateResponse); ok && a.err == nil {
			token = r.Token
		}
		tokens <- func() { got[s] = token }
		return []answer{a}
	})
	close(tokens)
	for set := range tokens {
		set()
	}
	if len(got) == 2 && got[p.pair.ours] != "" && got[p.pair.real] != "" {
		p.tokens[user] = got
	}
}

// first answers of streams: a watcher's creation, one renewal.
func (p *authScript) stream(user string) {
	key, end := p.span()
	watch := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: pick(p.generator, key, key, nil), RangeEnd: end}}}
	keep := &pb.LeaseKeepAliveRequest{ID: 1 + int64(p.r.IntN(3))}
	if p.chance(50) {
		p.pair.both(user+" keeps "+describe(keep), func(s *side) []answer {
			return p.as(s, user).stream(pb.Lease_LeaseKeepAlive_FullMethodName, []proto.Message{keep}, func() proto.Message { return new(pb.LeaseKeepAliveResponse) }, 1)
		})
		return
	}
	p.pair.both(user+" watches "+describe(watch), func(s *side) []answer {
		return p.as(s, user).stream(pb.Watch_Watch_FullMethodName, []proto.Message{watch}, func() proto.Message { return new(pb.WatchResponse) }, 1)
	})
}

func (p *authScript) run(steps int) {
	users := []string{"root", "root", "root", "tom", "tom", "eve", "nobody", "forged"}
	for n := range steps {
		p.pair.where = fmt.Sprintf("step %d", n)
		user := pick(p.generator, users...)
		switch p.r.IntN(10) {
		case 0, 1, 2:
			p.ask(pick(p.generator, user, "root"), p.manage())
		case 3:
			p.login(pick(p.generator, "root", "tom", "eve", "nobody"), pick(p.generator, "pw", "pw", "pw", "wrong"))
		case 4:
			p.stream(user)
		default:
			p.ask(user, p.access())
		}
		if p.pair.diverged {
			p.pair.tell()
			return
		}
	}
}

// begin makes users, and lets them in.
func (p *authScript) begin() {
	for _, r := range []proto.Message{
		&pb.AuthUserAddRequest{Name: "root", Password: "pw"}, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"},
		&pb.AuthUserAddRequest{Name: "tom", Password: "pw"}, &pb.AuthRoleAddRequest{Name: "team"}, &pb.AuthUserGrantRoleRequest{User: "tom", Role: "team"},
		&pb.AuthRoleGrantPermissionRequest{Name: "team", Perm: &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("b"), RangeEnd: []byte("e")}},
		&pb.AuthUserAddRequest{Name: "eve", Password: "pw"}, &pb.AuthEnableRequest{},
	} {
		p.ask("", r)
	}
	for _, user := range []string{"root", "tom", "eve"} {
		p.login(user, "pw")
	}
	p.tokens["forged"] = map[*side]string{p.pair.ours: "forged.1", p.pair.real: "forged.1"}
}

// records gives what a stopped member's file holds of users and roles; the salt of a password's hash is drawn at random.
func records(t *testing.T, m *process.Member) []string {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(m.Dir, "member", "snap", "db"), 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all []string
	err = db.View(func(tx *bbolt.Tx) error {
		for _, bucket := range []string{"auth", "authUsers", "authRoles"} {
			err := tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
				if bucket == "authUsers" {
					u := &authpb.User{}
					if err := proto.Unmarshal(v, u); err != nil {
						return err
					}
					if len(u.Password) > 0 {
						u.Password = []byte("hash")
					}
					var err error
					if v, err = proto.Marshal(u); err != nil {
						return err
					}
				}
				all = append(all, fmt.Sprintf("%s %q %x", bucket, k, v))
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAuthPrograms has users of both kinds of server do the same, while root changes what they may. Answers are equal, and so
// is what is stored of users and roles.
func TestAuthPrograms(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		p := &authScript{&generator{r: rand.New(rand.NewPCG(seed, 0))}, newPair(t, "--bcrypt-cost=4"), map[string]map[*side]string{}}
		p.begin()
		p.run(400)
		p.ask("root", &pb.HashKVRequest{})
		p.ask("root", &pb.AuthStatusRequest{})
		for _, s := range []*side{p.pair.ours, p.pair.real} {
			s.close()
			s.m.Stop()
		}
		got, want := records(t, p.pair.ours.m), records(t, p.pair.real.m)
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: stored of users and roles:\n%v", seed, differences(got, want))
		}
		t.Logf("seed %d: %d steps, %d differences, %d records", seed, len(p.pair.asked), p.pair.found, len(got))
	})
}

// dialAs gives a client of one member, who is a user with password pw.
func dialAs(t *testing.T, m *process.Member, user string) *clientv3.Client {
	t.Helper()
	c, err := clientOf(m, user, process.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the member may be gone
	return c
}

func clientOf(m *process.Member, user string, patience time.Duration) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{m.ClientAddr}, Username: user, Password: "pw", DialTimeout: patience, Logger: zap.NewNop()})
}

// enableUsers makes root, and tom with the keys from a to b, and enables auth.
func enableUsers(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	var all []error
	add := func(_ any, err error) { all = append(all, err) }
	add(c.UserAdd(ctx, "root", "pw"))
	add(c.UserGrantRole(ctx, "root", "root"))
	add(c.UserAdd(ctx, "tom", "pw"))
	add(c.RoleAdd(ctx, "team"))
	add(c.RoleGrantPermission(ctx, "team", "a", "b", clientv3.PermissionType(clientv3.PermReadWrite)))
	add(c.UserGrantRole(ctx, "tom", "team"))
	add(c.Put(ctx, "a1", "v"))
	add(c.Put(ctx, "z1", "secret"))
	add(c.AuthEnable(ctx))
	if err := errors.Join(all...); err != nil {
		t.Fatal(err)
	}
}

// rulesHold looks at what tom may do on a member, and gives the auth revision.
func rulesHold(t *testing.T, m *process.Member) uint64 {
	t.Helper()
	root, tom := dialAs(t, m, "root"), dialAs(t, m, "tom")
	if r, err := tom.Get(t.Context(), "a1"); err != nil || len(r.Kvs) != 1 {
		t.Errorf("%s: tom reads a1: %v, %v", m.Program.Name, r, err)
	}
	if err := process.Settled(t, func() error { _, err := tom.Put(t.Context(), "a2", "v"); return err }); err != nil {
		t.Errorf("%s: tom puts a2: %v", m.Program.Name, err)
	}
	if _, err := tom.Get(t.Context(), "z1"); err == nil {
		t.Errorf("%s: tom reads z1", m.Program.Name)
	}
	if _, err := m.Client().Get(t.Context(), "a1"); err == nil {
		t.Errorf("%s: nobody reads a1", m.Program.Name)
	}
	s, err := root.AuthStatus(t.Context())
	if err != nil || !s.Enabled {
		t.Fatalf("%s: %v, %v", m.Program.Name, s, err)
	}
	return s.AuthRevision
}

// A directory with auth enabled goes from one kind to the other and back, with users, roles and revision as they were.
func TestAuthDirectories(t *testing.T) {
	for _, way := range [][]string{{"etcd35", "keelson", "etcd37", "keelson"}, {"etcd36", "keelson", "etcd37"}, {"etcd37", "keelson", "etcd37"}, {"keelson", "etcd37", "keelson"}} {
		for _, e := range ends {
			t.Run(fmt.Sprint(way, " ", e.name), func(t *testing.T) {
				t.Parallel()
				var m *process.Member
				var want uint64
				for i, kind := range way {
					p := ours(t)
					if kind != "keelson" {
						p = stock(t, kind)
					}
					if i == 0 {
						m = single(t, p, "--bcrypt-cost=4").Serve()
						enableUsers(t, m.Client())
						want = rulesHold(t, m)
						continue
					}
					if i == 2 && way[0] == "etcd35" {
						process.AwaitLog(m, "saved snapshot to disk") // the log is recorded anew
					}
					e.how(m)
					m.With(p).Serve()
					if got := rulesHold(t, m); got != want {
						t.Errorf("%s: auth revision %d, not %d", kind, got, want)
					}
					root := dialAs(t, m, "root")
					if _, err := root.RoleAdd(t.Context(), fmt.Sprint("of ", kind, i)); err != nil {
						t.Error(err)
					}
					want++
				}
			})
		}
	}
}

// tokenOf takes a token from a member.
func tokenOf(t *testing.T, m *process.Member, user string) string {
	t.Helper()
	r, err := pb.NewAuthClient(m.Client().ActiveConnection()).Authenticate(t.Context(), &pb.AuthenticateRequest{Name: user, Password: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	return r.Token
}

// In a cluster of both kinds users are the same everywhere, and a token that any member gives is good on all.
func TestAuthMixedCluster(t *testing.T) {
	t.Parallel()
	c := formWith(t, []string{"--bcrypt-cost=4"}, "keelson", "etcd37", "etcd37")
	enableUsers(t, c.all[0].Client())
	c.user = "root"
	for _, kind := range []string{"keelson", "etcd37"} {
		c.lead(kind)
		root := dialAs(t, c.all[0], "root")
		process.Until(t, "a key has a lease of 2 s", func() error { // on a busy machine it may end before that
			l, err := root.Grant(t.Context(), 2)
			if err != nil {
				return err
			}
			_, err = root.Put(t.Context(), "z/leased", "v", clientv3.WithLease(l.ID))
			return err
		})
		for _, from := range c.all {
			token := tokenOf(t, from, "tom")
			for _, to := range c.all {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "token", token)
				kv := pb.NewKVClient(to.Client().ActiveConnection())
				if err := process.Settled(t, func() error { _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("a3")}); return err }); err != nil {
					t.Errorf("a token of %s (%s) on %s (%s): %v", from.Name, from.Program.Name, to.Name, to.Program.Name, err)
				}
				if err := process.Settled(t, func() error { _, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("a3")}); return err }); err != nil {
					t.Errorf("a token of %s on %s, to read: %v", from.Name, to.Name, err)
				}
				if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("z3")}); err == nil {
					t.Errorf("a token of tom on %s wrote z3", to.Name)
				}
			}
		}
		process.Until(t, "the lease expires under "+kind, func() error {
			r, err := root.Get(t.Context(), "z/leased")
			if err == nil && len(r.Kvs) > 0 {
				return errors.New("the key is still there")
			}
			return err
		})
		var revisions []uint64
		for _, m := range c.all {
			revisions = append(revisions, rulesHold(t, m))
		}
		if len(slices.Compact(revisions)) != 1 {
			t.Errorf("auth revisions %d", revisions)
		}
		err := process.Settled(t, func() error { _, err := root.RoleAdd(t.Context(), "under "+kind); return err })
		if err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) { // an earlier try may have taken effect
			t.Error(err)
		}
	}
	process.Until(t, "all members have the same hash", func() error {
		var hashes []uint32
		for _, m := range c.all {
			h, err := dialAs(t, m, "root").HashKV(t.Context(), m.ClientAddr, 0)
			if err != nil {
				return err
			}
			hashes = append(hashes, h.Hash)
		}
		if len(slices.Compact(hashes)) != 1 {
			return fmt.Errorf("%x", hashes)
		}
		return nil
	})
}
