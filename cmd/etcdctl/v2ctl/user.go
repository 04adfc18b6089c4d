package v2ctl

import (
	"context"
	"fmt"
	"strings"

	client "go.etcd.io/etcd/client/v2"
)

func userVerb() verb {
	return verb{
		name: "user", short: "users of the v2 API and their roles",
		verbs: []verb{
			{name: "add", args: "<user>", short: "adds a user: name, or name:password", run: userAdd},
			{name: "get", args: "<user>", short: "prints a user's roles", run: userGet},
			{name: "list", short: "lists the users", run: userList},
			{name: "remove", args: "<user>", short: "removes a user", run: userRemove},
			userRolesVerb("grant", "gives roles to a user", client.AuthUserAPI.GrantUser),
			userRolesVerb("revoke", "takes roles from a user", client.AuthUserAPI.RevokeUser),
			{name: "passwd", args: "<user>", short: "changes a user's password", run: userPasswd},
		},
	}
}

// dialUser dials for a command on the user that the command line names.
func (c *call) dialUser() (api client.AuthUserAPI, name string, err error) {
	cl, name, err := dialNamed(c, "Please provide a username")
	if err != nil {
		return nil, "", err
	}
	return client.NewAuthUserAPI(cl), name, nil
}

func userList(c *call) error {
	return listNames(c, func(ctx context.Context, cl client.Client) ([]string, error) {
		return client.NewAuthUserAPI(cl).ListUsers(ctx)
	})
}

func userAdd(c *call) error {
	api, arg, err := c.dialUser()
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(arg, ":")
	ctx, cancel := c.limited()
	defer cancel()
	_, password, err := c.login(arg, "New password: ")
	if err != nil {
		return refused("Error reading password: %v", err)
	}
	if err := api.AddUser(ctx, name, password); err != nil {
		return told(err)
	}
	fmt.Fprintf(c.Out, "User %s created\n", name)
	return nil
}

func userRemove(c *call) error {
	api, name, err := c.dialUser()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	if err := api.RemoveUser(ctx, name); err != nil {
		return told(err)
	}
	fmt.Fprintf(c.Out, "User %s removed\n", name)
	return nil
}

func userPasswd(c *call) error {
	api, name, err := c.dialUser()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	password, err := c.AskPassword("New password: ")
	if err != nil {
		return refused("Error reading password: %v", err)
	}
	if _, err := api.ChangePassword(ctx, name, password); err != nil {
		return told(err)
	}
	fmt.Fprintln(c.Out, "Password updated")
	return nil
}

func userGet(c *call) error {
	api, name, err := c.dialUser()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	u, err := api.GetUser(ctx, name)
	if err != nil {
		return told(err)
	}
	fmt.Fprintf(c.Out, "User: %s\nRoles: %s\n", u.User, strings.Join(u.Roles, " "))
	return nil
}

func userRolesVerb(name, short string, change func(client.AuthUserAPI, context.Context, string, []string) (*client.User, error)) verb {
	var roles []string
	return verb{
		name: name, args: "<user>", short: short,
		flags: func(f *flags) { f.words(&roles, "roles", "role", "a role; may be given several times") },
		run: func(c *call) error {
			if len(roles) == 0 {
				return refused("No roles specified; please use `--roles`")
			}
			api, user, err := c.dialUser()
			if err != nil {
				return err
			}
			ctx, cancel := c.limited()
			defer cancel()
			if _, err := change(api, ctx, user, roles); err != nil {
				return told(err)
			}
			fmt.Fprintf(c.Out, "User %s updated\n", user)
			return nil
		},
	}
}
