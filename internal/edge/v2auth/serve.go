package v2auth

import (
	"errors"
	"net/http"

	"keelson/internal/state/v2auth"
)

// userView is a user as answers show one.
type userView struct {
	User  string        `json:"user"`
	Roles []v2auth.Role `json:"roles,omitempty"`
}

// listUsers answers with all users, and what their roles are. Roles that are gone are left out.
func (c call) listUsers() error {
	r := c.records()
	if err := c.mayRead(r); err != nil {
		return err
	}
	names, err := r.names(c.ctx, v2auth.Users)
	if err != nil {
		return err
	}
	var body struct {
		Users []userView `json:"users"`
	}
	for _, name := range names {
		u, err := r.user(name)
		if err != nil {
			return err
		}
		v := userView{User: u.User}
		for _, role := range u.Roles {
			have, err := r.role(role)
			if err != nil {
				return err
			}
			if have != nil {
				v.Roles = append(v.Roles, *have)
			}
		}
		body.Users = append(body.Users, v)
	}
	return c.reply(http.StatusOK, body)
}

// user serves one user.
func (c call) user(name string) error {
	switch c.r.Method {
	case http.MethodGet:
		return c.showUser(name)
	case http.MethodDelete:
		return c.change(func(r records) (map[string]any, error) {
			u, enabled, err := both(r.user, name, r)
			if err == nil {
				err = v2auth.DeleteUser(u, name, enabled)
			}
			return map[string]any{v2auth.Users + name: nil}, err
		}, v2auth.Enabled)
	}
	var req, now v2auth.User
	if err := c.read(&req); err != nil {
		return err
	}
	switch {
	case req.User != name:
		return badRequest("User JSON name does not match the name in the URL")
	case (len(req.Grant) > 0 || len(req.Revoke) > 0) && len(req.Roles) > 0:
		return badRequest("User JSON contains both roles and grant/revoke")
	}
	created := false
	err := c.change(func(r records) (map[string]any, error) {
		u, err := r.user(name)
		if err == nil {
			now, created, err = v2auth.PutUser(u, req, c.hash)
		}
		return map[string]any{v2auth.Users + name: now}, err
	})
	if err != nil {
		return err
	}
	c.passwords.Forget(checked(name))
	now.Password = ""
	return c.reply(statusOf(created), now)
}

func statusOf(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

// both reads a record, and whether auth is enabled.
func both[T any](get func(string) (*T, error), name string, r records) (*T, bool, error) {
	enabled, err := r.enabled()
	if err != nil {
		return nil, false, err
	}
	t, err := get(name)
	return t, enabled, err
}

// showUser answers with one user. A role of theirs that is gone is an error.
func (c call) showUser(name string) error {
	r := c.records()
	if err := c.mayRead(r); err != nil {
		return err
	}
	u, err := r.user(name)
	if err == nil && u == nil {
		err = v2auth.NoUserHere(name)
	}
	if err != nil {
		return err
	}
	v := userView{User: u.User}
	for _, role := range u.Roles {
		have, err := r.role(role)
		if err == nil && have == nil {
			err = v2auth.NoRole(role)
		}
		if err != nil {
			return err
		}
		v.Roles = append(v.Roles, *have)
	}
	return c.reply(http.StatusOK, v)
}

// listRoles answers with all roles, root's among them.
func (c call) listRoles() error {
	r := c.records()
	if err := c.mayRead(r); err != nil {
		return err
	}
	names, err := r.names(c.ctx, v2auth.Roles)
	if err != nil {
		return err
	}
	body := struct {
		Roles []v2auth.Role `json:"roles"`
	}{}
	rooted := false
	for i := 0; i <= len(names); i++ {
		if !rooted && (i == len(names) || names[i] > v2auth.Root) {
			body.Roles, rooted = append(body.Roles, v2auth.All(v2auth.Root)), true
		}
		if i == len(names) {
			break
		}
		role, err := r.role(names[i])
		if err != nil {
			return err
		}
		body.Roles = append(body.Roles, *role)
	}
	return c.reply(http.StatusOK, body)
}

// role serves one role.
func (c call) role(name string) error {
	switch c.r.Method {
	case http.MethodGet:
		r := c.records()
		if err := c.mayRead(r); err != nil {
			return err
		}
		role, err := r.role(name)
		if err == nil && role == nil {
			err = v2auth.NoRole(name)
		}
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, role)
	case http.MethodDelete:
		return c.change(func(r records) (map[string]any, error) {
			role, err := r.role(name)
			if err == nil {
				err = v2auth.DeleteRole(role, name)
			}
			return map[string]any{v2auth.Roles + name: nil}, err
		})
	}
	var req, now v2auth.Role
	if err := c.read(&req); err != nil {
		return err
	}
	switch {
	case req.Role != name:
		return badRequest("Role JSON name does not match the name in the URL")
	case (!req.Grant.Empty() || !req.Revoke.Empty()) && !req.Permissions.Empty():
		return badRequest("Role JSON contains both permissions and grant/revoke")
	}
	created := false
	err := c.change(func(r records) (map[string]any, error) {
		role, err := r.role(name)
		if err == nil {
			now, created, err = v2auth.PutRole(role, req)
		}
		return map[string]any{v2auth.Roles + name: now}, err
	})
	if err != nil {
		return err
	}
	return c.reply(statusOf(created), now)
}

// enable tells whether auth is enabled, enables it, or disables it. With the first, guests may still do everything.
func (c call) enable() error {
	switch c.r.Method {
	case http.MethodGet:
		on, err := c.records().enabled()
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, map[string]bool{"enabled": on})
	case http.MethodDelete:
		return c.change(func(r records) (map[string]any, error) {
			on, err := r.enabled()
			if err == nil {
				err = v2auth.Disable(on)
			}
			return map[string]any{v2auth.Enabled: v2auth.Off}, err
		})
	}
	return c.change(func(r records) (map[string]any, error) {
		root, on, err := both(r.user, v2auth.Root, r)
		if err == nil {
			err = v2auth.Enable(on, root)
		}
		todo := map[string]any{v2auth.Enabled: v2auth.On}
		guest, gerr := r.role(v2auth.Guest)
		if guest == nil {
			todo[v2auth.Roles+v2auth.Guest] = v2auth.All(v2auth.Guest)
		}
		return todo, errors.Join(err, gerr)
	}, v2auth.Users+v2auth.Root)
}
