package auth

import (
	"bytes"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/storage/schema"
)

// RoleAdd adds a role that permits nothing.
func (s *Store) RoleAdd(b Saver, r *pb.AuthRoleAddRequest) error {
	if r.Name == "" {
		return ErrRoleEmpty
	}
	i, ok := s.now.findRole(r.Name)
	if ok {
		return ErrRoleExists
	}
	v := s.now.next()
	added := &role{r.Name, &authpb.Role{Name: []byte(r.Name)}}
	v.roles = slices.Insert(slices.Clone(v.roles), i, added)
	saveRole(b, added)
	s.commit(b, v)
	return nil
}

// RoleDelete takes a role away, also from all who have it: not RootRole while auth is enabled.
func (s *Store) RoleDelete(b Saver, r *pb.AuthRoleDeleteRequest) error {
	if s.now.enabled && r.Role == RootRole {
		return ErrInvalidManagement
	}
	i, ok := s.now.findRole(r.Role)
	if !ok {
		return ErrRoleNotFound
	}
	v := s.now.next()
	v.roles = slices.Delete(slices.Clone(v.roles), i, i+1)
	b.Delete(schema.AuthRoles, []byte(r.Role))
	v.users = slices.Clone(v.users)
	for i, u := range v.users {
		if left := without(u.Roles, r.Role); len(left) < len(u.Roles) {
			v.users[i] = &user{u.name, withRoles(u, left)}
			saveUser(b, v.users[i])
		}
	}
	s.commit(b, v)
	return nil
}

// RoleGrantPermission adds a range to a role, or changes what the role may do with that range.
func (s *Store) RoleGrantPermission(b Saver, r *pb.AuthRoleGrantPermissionRequest) error {
	if r.Perm == nil {
		return ErrPermissionNotGiven
	}
	if !isRange(r.Perm.Key, r.Perm.RangeEnd) {
		return ErrInvalidManagement
	}
	i, ok := s.now.findRole(r.Name)
	if !ok {
		return ErrRoleNotFound
	}
	all := slices.Clone(s.now.roles[i].KeyPermission)
	p := &authpb.Permission{PermType: r.Perm.PermType, Key: bytes.Clone(r.Perm.Key), RangeEnd: bytes.Clone(r.Perm.RangeEnd)}
	// As in etcd only the first permission of a key is looked at: another of the same range, behind it, stays beside p.
	at := sort.Search(len(all), func(i int) bool { return bytes.Compare(all[i].Key, p.Key) >= 0 })
	if at < len(all) && bytes.Equal(all[at].Key, p.Key) && bytes.Equal(all[at].RangeEnd, p.RangeEnd) {
		p.Key, p.RangeEnd = all[at].Key, all[at].RangeEnd
		all[at] = p
	} else {
		all = append(all, p)
		// The order of permissions with the same key is that which this algorithm leaves: it is stored.
		sort.Sort(byKey(all))
	}
	s.changeRole(b, i, all)
	return nil
}

// byKey sorts permissions by their ranges' first keys alone.
type byKey []*authpb.Permission

func (p byKey) Len() int           { return len(p) }
func (p byKey) Less(i, j int) bool { return bytes.Compare(p[i].Key, p[j].Key) < 0 }
func (p byKey) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }

// RoleRevokePermission takes every permission of exactly this range from a role.
func (s *Store) RoleRevokePermission(b Saver, r *pb.AuthRoleRevokePermissionRequest) error {
	i, ok := s.now.findRole(r.Role)
	if !ok {
		return ErrRoleNotFound
	}
	all := s.now.roles[i].KeyPermission
	left := slices.DeleteFunc(slices.Clone(all), func(p *authpb.Permission) bool {
		return bytes.Equal(p.Key, r.Key) && bytes.Equal(p.RangeEnd, r.RangeEnd)
	})
	if len(left) == len(all) {
		return ErrPermissionNotGranted
	}
	s.changeRole(b, i, left)
	return nil
}

// changeRole gives the role at i other permissions.
func (s *Store) changeRole(b Saver, i int, permissions []*authpb.Permission) {
	v := s.now.next()
	v.roles = slices.Clone(v.roles)
	old := v.roles[i]
	v.roles[i] = &role{old.name, &authpb.Role{Name: old.Name, KeyPermission: permissions}}
	saveRole(b, v.roles[i])
	s.commit(b, v)
}

// isRange tells whether a permission's range holds a key.
func isRange(key, end []byte) bool {
	return len(key) > 0 && (len(end) == 0 || isOpen(end) || bytes.Compare(key, end) < 0)
}
