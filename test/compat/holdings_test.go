package compat

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// holdings are what a server holds that a call could change.
type holdings struct {
	rev     int64
	authRev uint64
	enabled bool
	// lines are keys, leases, alarms and members; users are users and roles.
	lines, users []string
}

// look reads all of it, as root.
func (r *realm) look() holdings {
	r.t.Helper()
	status := r.asRoot(&pb.AuthStatusRequest{}).(*pb.AuthStatusResponse)
	h := holdings{authRev: status.AuthRevision, enabled: status.Enabled, users: r.now.users}
	if h.authRev != r.now.authRev || h.enabled != r.now.enabled || h.users == nil {
		r.now.enabled = h.enabled
		h.users = r.lookAtUsers()
		r.changed()
	}
	all := r.asRoot(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Serializable: true}).(*pb.RangeResponse)
	h.rev = all.Header.Revision
	for _, kv := range all.Kvs {
		key := string(kv.Key)
		if i := strings.LastIndexByte(key, '/'); strings.Contains(key, "lock/") && !contains(heldLeases, kv.Lease) {
			key = key[:i] + "/of a lease granted for it"
		}
		h.lines = append(h.lines, fmt.Sprintf("key %s=%s lease %s", key, kv.Value, leaseName(kv.Lease)))
	}
	for _, l := range r.asRoot(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse).Leases {
		h.lines = append(h.lines, "lease "+leaseName(l.ID))
	}
	for _, a := range r.asRoot(&pb.AlarmRequest{}).(*pb.AlarmResponse).Alarms {
		h.lines = append(h.lines, fmt.Sprintf("alarm %v of me %v", a.Alarm, a.MemberID == r.id))
	}
	for _, m := range r.asRoot(&pb.MemberListRequest{}).(*pb.MemberListResponse).Members {
		if m.ID == r.id {
			h.lines = append(h.lines, fmt.Sprintf("member me %s %d URLs", m.Name, len(m.PeerURLs)))
		} else {
			h.lines = append(h.lines, fmt.Sprintf("member %v learner %v", m.PeerURLs, m.IsLearner))
		}
	}
	slices.Sort(h.lines)
	return h
}

func contains(all []int64, x int64) bool { return slices.Contains(all, x) }

func leaseName(id int64) string {
	if id < 1000 {
		return fmt.Sprint(id)
	}
	return "drawn"
}

func (r *realm) lookAtUsers() []string {
	r.t.Helper()
	lines := []string{fmt.Sprintf("auth enabled %v", r.now.enabled)}
	for _, u := range r.asRoot(&pb.AuthUserListRequest{}).(*pb.AuthUserListResponse).Users {
		got := r.asRoot(&pb.AuthUserGetRequest{Name: u}).(*pb.AuthUserGetResponse)
		lines = append(lines, fmt.Sprintf("user %s %v", u, got.Roles))
	}
	for _, role := range r.asRoot(&pb.AuthRoleListRequest{}).(*pb.AuthRoleListResponse).Roles {
		got := r.asRoot(&pb.AuthRoleGetRequest{Role: role}).(*pb.AuthRoleGetResponse)
		line := "role " + role
		for _, p := range got.Perm {
			line += fmt.Sprintf(" %v [%q,%q)", p.PermType, p.Key, p.RangeEnd)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// since tells what changed after an earlier look.
func (h holdings) since(before holdings) string {
	lines := append(differences(h.lines, before.lines), differences(h.users, before.users)...)
	if d := h.rev - before.rev; d != 0 {
		lines = append(lines, fmt.Sprintf("%d revisions", d))
	}
	if d := int64(h.authRev) - int64(before.authRev); d != 0 {
		lines = append(lines, fmt.Sprintf("%d revisions of users", d))
	}
	return strings.Join(lines, "; ")
}

// What every call finds: who may do what, and whose each key is. Leases are attached to keys of one range, of both, of none.
var (
	heldRoles = map[string]*authpb.Permission{
		"root": nil, "spare": nil,
		"reader": {PermType: authpb.READ, Key: b("r/"), RangeEnd: b("r0")},
		"writer": {PermType: authpb.READWRITE, Key: b("w/"), RangeEnd: b("w0")},
	}
	heldUsers = map[string][]string{"root": {"root"}, "idle": nil, "reader": {"reader"}, "writer": {"writer"}, "keyless": {"reader"}, "victim": {"spare"}}
	heldKeys  = []pb.PutRequest{
		{Key: b("r/1"), Value: b("one")}, {Key: b("r/2"), Value: b("two")}, {Key: b("w/1"), Value: b("one")}, {Key: b("w/2"), Value: b("two")}, {Key: b("x/1"), Value: b("one")},
		{Key: b("r/leased"), Lease: leaseOfReader}, {Key: b("w/leased"), Lease: leaseOfWriter}, {Key: b("r/both"), Lease: leaseOfBoth}, {Key: b("w/both"), Lease: leaseOfBoth},
		{Key: b("r/e/1"), Value: b("leads")}, {Key: b("w/e/1"), Value: b("leads")}, {Key: b("x/e/1"), Value: b("leads")},
	}
	heldLeases = []int64{leaseOfReader, leaseOfWriter, leaseOfBoth, leaseOfNone}
)

const (
	leaseOfReader, leaseOfWriter, leaseOfBoth, leaseOfNone = 101, 102, 103, 104
	leaseTTL                                               = 7200
)

// restore makes a server hold just that, whatever it held before.
func (r *realm) restore() {
	r.t.Helper()
	r.changed()
	r.restoreUsers()
	alarms := r.asRoot(&pb.AlarmRequest{}).(*pb.AlarmResponse).Alarms
	for _, a := range alarms {
		r.asRoot(&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.MemberID, Alarm: a.Alarm})
	}
	for _, m := range r.asRoot(&pb.MemberListRequest{}).(*pb.MemberListResponse).Members {
		if r.id != 0 && m.ID != r.id {
			r.asRoot(&pb.MemberRemoveRequest{ID: m.ID})
		}
	}
	granted := map[int64]bool{}
	for _, l := range r.asRoot(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse).Leases {
		if granted[l.ID] = contains(heldLeases, l.ID); !granted[l.ID] {
			r.asRoot(&pb.LeaseRevokeRequest{ID: l.ID})
		}
	}
	for _, id := range heldLeases {
		if !granted[id] {
			r.asRoot(&pb.LeaseGrantRequest{ID: id, TTL: leaseTTL})
		}
	}
	r.restoreKeys()
	r.now.users = nil // look at them again
	r.now = r.look()
}

func (r *realm) restoreKeys() {
	r.t.Helper()
	missing := map[string]*pb.PutRequest{}
	for i := range heldKeys {
		missing[string(heldKeys[i].Key)] = &heldKeys[i]
	}
	for _, kv := range r.asRoot(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}).(*pb.RangeResponse).Kvs {
		want := missing[string(kv.Key)]
		switch {
		case want == nil:
			r.asRoot(&pb.DeleteRangeRequest{Key: kv.Key})
		case bytes.Equal(want.Value, kv.Value) && want.Lease == kv.Lease:
			delete(missing, string(kv.Key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(missing)) {
		r.asRoot(missing[key])
	}
}

func (r *realm) restoreUsers() {
	r.t.Helper()
	r.now.enabled = r.isEnabled()
	roles := r.asRoot(&pb.AuthRoleListRequest{}).(*pb.AuthRoleListResponse).Roles
	for _, role := range roles {
		if _, ok := heldRoles[role]; !ok {
			r.asRoot(&pb.AuthRoleDeleteRequest{Role: role})
		}
	}
	for _, role := range slices.Sorted(maps.Keys(heldRoles)) {
		r.restoreRole(role, slices.Contains(roles, role))
	}
	users := r.asRoot(&pb.AuthUserListRequest{}).(*pb.AuthUserListResponse).Users
	for _, user := range users {
		if _, ok := heldUsers[user]; !ok {
			r.asRoot(&pb.AuthUserDeleteRequest{Name: user})
		}
	}
	for _, user := range slices.Sorted(maps.Keys(heldUsers)) {
		r.restoreUser(user, slices.Contains(users, user))
	}
	if !r.now.enabled {
		r.asRoot(&pb.AuthEnableRequest{})
		r.now.enabled = true
		r.changed()
	}
}

// isEnabled asks without a token, which is refused where tokens are needed.
func (r *realm) isEnabled() bool {
	a := r.raw("", "", &pb.AuthStatusRequest{})
	s, _ := a.msg.(*pb.AuthStatusResponse)
	return a.err != nil || s.GetEnabled()
}

func (r *realm) restoreRole(role string, there bool) {
	r.t.Helper()
	if !there {
		r.asRoot(&pb.AuthRoleAddRequest{Name: role})
	}
	want, found := heldRoles[role], false
	for _, p := range r.asRoot(&pb.AuthRoleGetRequest{Role: role}).(*pb.AuthRoleGetResponse).Perm {
		if want != nil && p.PermType == want.PermType && bytes.Equal(p.Key, want.Key) && bytes.Equal(p.RangeEnd, want.RangeEnd) {
			found = true
		} else if role != "root" {
			r.asRoot(&pb.AuthRoleRevokePermissionRequest{Role: role, Key: p.Key, RangeEnd: p.RangeEnd})
		}
	}
	if want != nil && !found {
		r.asRoot(&pb.AuthRoleGrantPermissionRequest{Name: role, Perm: want})
	}
}

func (r *realm) restoreUser(user string, there bool) {
	r.t.Helper()
	if !there {
		add := &pb.AuthUserAddRequest{Name: user, Password: passwordOf + user}
		if user == "keyless" {
			add = &pb.AuthUserAddRequest{Name: user, Options: &authpb.UserAddOptions{NoPassword: true}}
		}
		r.asRoot(add)
	}
	has := r.asRoot(&pb.AuthUserGetRequest{Name: user}).(*pb.AuthUserGetResponse).Roles
	for _, role := range has {
		if !slices.Contains(heldUsers[user], role) {
			r.asRoot(&pb.AuthUserRevokeRoleRequest{Name: user, Role: role})
		}
	}
	for _, role := range heldUsers[user] {
		if !slices.Contains(has, role) {
			r.asRoot(&pb.AuthUserGrantRoleRequest{User: user, Role: role})
		}
	}
}
