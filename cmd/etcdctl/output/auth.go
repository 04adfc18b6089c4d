package output

import (
	"bufio"
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// AuthChange is the answer of a change of users or roles. The answer itself says nothing: simple prints a sentence.
type AuthChange struct {
	Said     string
	Response authAnswer
}

// authAnswer is what the answers of all those changes are.
type authAnswer interface {
	proto.Message
	GetHeader() *pb.ResponseHeader
}

// Role is what a role may do.
type Role struct {
	Name     string
	Response *pb.AuthRoleGetResponse
}

// User is the roles of a user.
type User struct {
	Name     string
	Response *pb.AuthUserGetResponse
}

// rootRole may do all, without a permission that says so.
const rootRole = "root"

// openEnd is the end of a range that has none.
const openEnd = "\x00"

// authMessage gives an answer about users and roles as the server sent it, nil for others.
func authMessage(answer any) proto.Message {
	switch r := answer.(type) {
	case *AuthChange:
		return r.Response
	case *Role:
		return r.Response
	case *User:
		return r.Response
	case *clientv3.AuthUserListResponse:
		return (*pb.AuthUserListResponse)(r)
	case *clientv3.AuthRoleListResponse:
		return (*pb.AuthRoleListResponse)(r)
	case *clientv3.AuthStatusResponse:
		return (*pb.AuthStatusResponse)(r)
	}
	return nil
}

func (s *simple) auth(w *bufio.Writer, answer any) {
	switch r := answer.(type) {
	case *AuthChange:
		fmt.Fprintln(w, r.Said)
	case *Role:
		role(w, r.Name, r.Response.GetPerm())
	case *User:
		fmt.Fprintf(w, "User: %s\nRoles:", r.Name)
		for _, role := range r.Response.GetRoles() {
			fmt.Fprintf(w, " %s", role)
		}
		fmt.Fprintln(w)
	case *clientv3.AuthUserListResponse:
		names(w, r.Users)
	case *clientv3.AuthRoleListResponse:
		names(w, r.Roles)
	case *clientv3.AuthStatusResponse:
		fmt.Fprintf(w, "Authentication Status: %t\nAuthRevision: %d\n", r.Enabled, r.AuthRevision)
	}
}

func names(w *bufio.Writer, all []string) {
	for _, n := range all {
		fmt.Fprintln(w, n)
	}
}

func role(w *bufio.Writer, name string, perms []*authpb.Permission) {
	if name == rootRole && perms == nil {
		perms = []*authpb.Permission{{PermType: authpb.Permission_READWRITE, RangeEnd: []byte(openEnd)}}
	}
	fmt.Fprintf(w, "Role %s\n", name)
	for _, part := range []struct {
		head string
		kind authpb.Permission_Type
	}{{"KV Read:", authpb.Permission_READ}, {"KV Write:", authpb.Permission_WRITE}} {
		fmt.Fprintln(w, part.head)
		for _, p := range perms {
			if p.GetPermType() == part.kind || p.GetPermType() == authpb.Permission_READWRITE {
				fmt.Fprintf(w, "\t%s\n", permitted(string(p.GetKey()), string(p.GetRangeEnd())))
			}
		}
	}
}

// permitted names a key or a range. A range without an end keeps etcd's unequal brackets.
func permitted(key, end string) string {
	if end == "" {
		return key
	}
	text := fmt.Sprintf("[%s, %s)", key, end)
	if end == openEnd {
		text = fmt.Sprintf("[%s, <open ended>", key)
	}
	if key != "" && clientv3.GetPrefixRangeEnd(key) == end {
		text += fmt.Sprintf(" (prefix %s)", key)
	}
	return text
}

// RevokedPermission is the sentence for a permission that is gone. A range is named as a granted one is, but for the prefix.
func RevokedPermission(role, key, end string) string {
	switch end {
	case "":
		return fmt.Sprintf("Permission of key %s is revoked from role %s", key, role)
	case openEnd:
		return fmt.Sprintf("Permission of range [%s, <open ended> is revoked from role %s", key, role)
	}
	return fmt.Sprintf("Permission of range [%s, %s) is revoked from role %s", key, end, role)
}

func (f *fields) auth(w *bufio.Writer, answer any) {
	switch r := answer.(type) {
	case *AuthChange:
		f.header(w, r.Response.GetHeader())
	case *Role:
		f.header(w, r.Response.GetHeader())
		for _, p := range r.Response.GetPerm() {
			field(w, "PermType", " "+p.GetPermType().String())
			quoted(w, "Key", p.GetKey())
			quoted(w, "RangeEnd", p.GetRangeEnd())
		}
	case *clientv3.AuthRoleListResponse:
		f.header(w, r.Header)
		fmt.Fprint(w, `"Roles" :`)
		for _, role := range r.Roles {
			fmt.Fprintf(w, " %q", role)
		}
		fmt.Fprintln(w)
	}
}
