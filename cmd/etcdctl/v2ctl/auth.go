package v2ctl

import (
	"context"
	"fmt"

	client "go.etcd.io/etcd/client/v2"
)

func authVerb() verb {
	return verb{
		name: "auth", short: "turns the v2 API's users on and off",
		verbs: []verb{
			{name: "enable", short: "asks for users from now on; there must be a user root", run: func(c *call) error {
				return c.switchAuth("Enabled", client.AuthAPI.Enable)
			}},
			{name: "disable", short: "lets everybody do everything again", run: func(c *call) error {
				return c.switchAuth("Disabled", client.AuthAPI.Disable)
			}},
		},
	}
}

func (c *call) switchAuth(done string, ask func(client.AuthAPI, context.Context) error) error {
	if err := c.noArgs(); err != nil {
		return err
	}
	cl, err := c.dialAuth()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	if err := ask(client.NewAuthAPI(cl), ctx); err != nil {
		return told(err)
	}
	fmt.Fprintln(c.Out, "Authentication", done)
	return nil
}

func (c *call) noArgs() error {
	if len(c.args) > 0 {
		return refused("No arguments accepted")
	}
	return nil
}

// dialNamed dials for a command on the one user or role that the command line names; missing is what is said where it does not.
func dialNamed(c *call, missing string) (cl client.Client, name string, err error) {
	if len(c.args) != 1 {
		return nil, "", refused("%s", missing)
	}
	cl, err = c.dialAuth()
	return cl, c.args[0], err
}

// listNames prints the names of all users or roles, a line each.
func listNames(c *call, list func(context.Context, client.Client) ([]string, error)) error {
	if err := c.noArgs(); err != nil {
		return err
	}
	cl, err := c.dialAuth()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	names, err := list(ctx, cl)
	if err != nil {
		return told(err)
	}
	for _, n := range names {
		fmt.Fprintln(c.Out, n)
	}
	return nil
}
