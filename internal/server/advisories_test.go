package server

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/state/auth"
)

// What etcd's advisories of 2026 are about must not work here: each call once did more than its user may. That every method
// has a rule (CVE-2026-33413) is held by the gRPC edge's tests, that a revocation list holds whatever else is set (GHSA-3wh4)
// by package tlsconf's, and that a handshake takes no more than its time (GHSA-6vch) by package listen's.
func TestAdvisories(t *testing.T) {
	dir := t.TempDir()
	m := start(t, testConfig(t, dir, "--bcrypt-cost", "4"))
	enableAuth(t, m)
	root := login(t, m, "root", "r")
	penned(t, m, root)
	tom, pen := login(t, m, "tom", "t"), login(t, m, "pen", "p")
	lent, err := m.LeaseGrant(root, &pb.LeaseGrantRequest{TTL: 100})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(root, &pb.PutRequest{Key: []byte("z"), Value: []byte("secret"), Lease: lent.ID}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		by context.Context
		op *pb.RequestOp
	}{
		"a nested range":              {tom, getOp("z")},
		"a nested put":                {tom, putOp(&pb.PutRequest{Key: []byte("z")})},
		"a nested delete":             {tom, deleteOp(&pb.DeleteRangeRequest{Key: []byte("z")})},
		"a nested delete from key on": {tom, deleteOp(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})},
		"a nested compare":            {tom, nest(getOp("a"), &pb.Compare{Key: []byte("z"), Result: pb.Compare_GREATER, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{}})},
		"the value before a put of who may only write":     {pen, putOp(&pb.PutRequest{Key: []byte("p1"), PrevKv: true})},
		"the values before a delete of who may only write": {pen, deleteOp(&pb.DeleteRangeRequest{Key: []byte("p1"), PrevKv: true})},
		"a lease that holds another's key":                 {tom, putOp(&pb.PutRequest{Key: []byte("a"), Lease: lent.ID})},
	} {
		for depth, op := 0, c.op; depth < 3; depth, op = depth+1, nest(op) {
			for branch, r := range map[string]*pb.TxnRequest{"taken": {Success: []*pb.RequestOp{op}}, "not taken": {Failure: []*pb.RequestOp{op}}} {
				if _, err := m.Txn(c.by, r); !errors.Is(err, auth.ErrDenied) {
					t.Errorf("%s, %d deep, in the branch %s: %v", name, depth, branch, err)
				}
			}
		}
	}
	for name, r := range map[string][2][]byte{
		"one key": {[]byte("z"), nil}, "all keys from one on": {[]byte("a"), {0}}, "every key": {{0}, {0}}, "a range beyond": {[]byte("a"), []byte("c")},
	} {
		if _, err := m.MayWatch(tom, r[0], r[1]); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("a watch of %s: %v", name, err)
		}
	}
	if _, err := m.LeaseRevoke(tom, &pb.LeaseRevokeRequest{ID: lent.ID}); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("the end of a lease that holds another's key: %v", err)
	}
	if r, err := m.Range(root, &pb.RangeRequest{Key: []byte("z")}); err != nil || len(r.KVs) != 1 {
		t.Errorf("the key that nobody might touch: %v, %v", r, err)
	}
	stop(t, m)
	m = start(t, testConfig(t, dir, "--bcrypt-cost", "4"))
	defer stop(t, m)
	if _, err := m.Range(context.Background(), &pb.RangeRequest{Key: []byte("z")}); !errors.Is(err, auth.ErrUserEmpty) {
		t.Errorf("nobody, after a restart: %v", err)
	}
}

// penned adds user pen, who may write from p to q and read nothing.
func penned(t *testing.T, m *Member, root context.Context) {
	t.Helper()
	_, err := m.UserAdd(root, &pb.AuthUserAddRequest{Name: "pen", Password: "p"})
	_, err2 := m.RoleAdd(root, &pb.AuthRoleAddRequest{Name: "pens"})
	_, err3 := m.RoleGrantPermission(root, &pb.AuthRoleGrantPermissionRequest{Name: "pens", Perm: &authpb.Permission{
		PermType: authpb.Permission_WRITE, Key: []byte("p"), RangeEnd: []byte("q"),
	}})
	_, err4 := m.UserGrantRole(root, &pb.AuthUserGrantRoleRequest{User: "pen", Role: "pens"})
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
}

func getOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

// nest puts an operation into a transaction of its own.
func nest(op *pb.RequestOp, compares ...*pb.Compare) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Compare: compares, Success: []*pb.RequestOp{op}}}}
}
