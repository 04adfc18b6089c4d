package v2ctl

import (
	"context"
	"fmt"
	"reflect"

	"go.etcd.io/etcd/client/pkg/v3/pathutil"
	client "go.etcd.io/etcd/client/v2"
)

func roleVerb() verb {
	return verb{
		name: "role", short: "roles of the v2 API and what they may do",
		verbs: []verb{
			{name: "add", args: "<role>", short: "adds a role", run: roleAdd},
			{name: "get", args: "<role>", short: "prints what a role may do", run: roleGet},
			{name: "list", short: "lists the roles", run: roleList},
			{name: "remove", args: "<role>", short: "removes a role", run: roleRemove},
			rolePathVerb("grant", "lets a role read or write a path", "granted", client.AuthRoleAPI.GrantRoleKV),
			rolePathVerb("revoke", "lets a role read or write a path no more", "revoked", client.AuthRoleAPI.RevokeRoleKV),
		},
	}
}

// dialRole dials for a command on the role that the command line names.
func (c *call) dialRole() (api client.AuthRoleAPI, name string, err error) {
	cl, name, err := dialNamed(c, "Please provide a role name")
	if err != nil {
		return nil, "", err
	}
	return client.NewAuthRoleAPI(cl), name, nil
}

func roleList(c *call) error {
	return listNames(c, func(ctx context.Context, cl client.Client) ([]string, error) {
		return client.NewAuthRoleAPI(cl).ListRoles(ctx)
	})
}

func roleAdd(c *call) error {
	api, name, err := c.dialRole()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	if r, err := api.GetRole(ctx, name); err == nil && r != nil {
		return refused("Role %s already exists", name)
	}
	if err := api.AddRole(ctx, name); err != nil {
		return told(err)
	}
	fmt.Fprintf(c.Out, "Role %s created\n", name)
	return nil
}

func roleRemove(c *call) error {
	api, name, err := c.dialRole()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	if err := api.RemoveRole(ctx, name); err != nil {
		return told(err)
	}
	fmt.Fprintf(c.Out, "Role %s removed\n", name)
	return nil
}

func roleGet(c *call) error {
	api, name, err := c.dialRole()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	r, err := api.GetRole(ctx, name)
	if err != nil {
		return told(err)
	}
	fmt.Fprintf(c.Out, "Role: %s\nKV Read:\n", r.Role)
	for _, p := range r.Permissions.KV.Read {
		fmt.Fprintf(c.Out, "\t%s\n", p)
	}
	fmt.Fprintln(c.Out, "KV Write:")
	for _, p := range r.Permissions.KV.Write {
		fmt.Fprintf(c.Out, "\t%s\n", p)
	}
	return nil
}

// pathFlags are what a role is to be given or to lose.
type pathFlags struct {
	path            string
	read, write, rw bool
}

type changePath func(client.AuthRoleAPI, context.Context, string, []string, client.PermissionType) (*client.Role, error)

func rolePathVerb(name, short, already string, change changePath) verb {
	var p pathFlags
	return verb{
		name: name, args: "<role>", short: short,
		flags: func(f *flags) {
			f.text(&p.path, "path", "path", "a key, or with * at its end all keys that begin so")
			f.boolean(&p.read, "read", "to read")
			f.boolean(&p.write, "write", "to write")
			f.boolean(&p.rw, "readwrite, rw", "both")
		},
		run: func(c *call) error { return p.run(c, already, change) },
	}
}

func (p *pathFlags) run(c *call, already string, change changePath) error {
	kind, err := p.check()
	if err != nil {
		return err
	}
	api, role, err := c.dialRole()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	before, err := api.GetRole(ctx, role)
	if err != nil {
		return told(err)
	}
	after, err := change(api, ctx, role, []string{p.path}, kind)
	if err != nil {
		return told(err)
	}
	if reflect.DeepEqual(before, after) {
		fmt.Fprint(c.Out, "Role unchanged; already ", already) // 3.4.23 ends no line here
	}
	fmt.Fprintf(c.Out, "Role %s updated\n", role)
	return nil
}

// check tells what the flags name, before anything is sent.
func (p *pathFlags) check() (client.PermissionType, error) {
	if p.path == "" {
		return 0, refused("No path specified; please use `--path`")
	}
	if clean := pathutil.CanonicalURLPath(p.path); clean != p.path {
		return 0, refused("Not canonical path; please use `--path=%s`", clean)
	}
	switch [3]bool{p.read, p.write, p.rw} {
	case [3]bool{true, false, false}:
		return client.ReadPermission, nil
	case [3]bool{false, true, false}:
		return client.WritePermission, nil
	case [3]bool{false, false, true}:
		return client.ReadWritePermission, nil
	}
	return 0, refused("Please specify exactly one of --read, --write or --readwrite")
}
