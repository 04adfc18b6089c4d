package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/cmd/etcdctl/output"
)

const userHelp = `Shows and changes the users of the cluster. What a user may do is what the user's roles may do: see etcdctl role.`

const (
	userGetHelp    = `Prints the roles of a user; with --detail what each of them may do.`
	userListHelp   = `Prints the names of all users, one a line.`
	userDeleteHelp = `Deletes a user. Whoever is logged in as that user is refused from the next call on.`
	userGrantHelp  = `Gives a role to a user. It counts from the next call on.`
	userRevokeHelp = `Takes a role from a user. It counts from the next call on.`
)

func userCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "user <subcommand>",
		Short:   "Shows and changes users",
		Long:    userHelp,
		GroupID: groupAuth,
	}
	cmd.AddCommand(userAddCommand(a), userDeleteCommand(a), userGetCommand(a), userListCommand(a), userPasswdCommand(a),
		userRoleCommand(a, "grant-role", "Gives a role to a user", userGrantHelp, "user grant command requires user name and role name as its argument", grantRole),
		userRoleCommand(a, "revoke-role", "Takes a role from a user", userRevokeHelp, "user revoke-role requires user name and role name as its argument", revokeRole))
	return cmd
}

func userDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "delete <user name>",
		Short: "Deletes a user",
		Long:  userDeleteHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "user delete command requires user name as its argument")
			}
			return authChange(a, cmd, func(ctx context.Context, c *call) (*output.AuthChange, error) {
				r, err := c.UserDelete(ctx, args[0])
				return &output.AuthChange{Said: fmt.Sprintf("User %s deleted", args[0]), Response: (*pb.AuthUserDeleteResponse)(r)}, err
			})
		},
	}
}

func userListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Lists all users",
		Long:  userListHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return fail(statusBadArgs, "user list command requires no arguments")
			}
			return a.ask(cmd, statusError, nil, func(ctx context.Context, c *call) (any, error) { return c.UserList(ctx) })
		},
	}
}

func userGetCommand(a *app) *cobra.Command {
	detail := false
	cmd := &cobra.Command{
		Use:   "get <user name> [options]",
		Short: "Shows the roles of a user",
		Long:  userGetHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "user get command requires user name as its argument")
			}
			if detail {
				return userDetail(a, cmd, args[0])
			}
			return a.ask(cmd, statusError, nil, func(ctx context.Context, c *call) (any, error) {
				r, err := c.UserGet(ctx, args[0])
				return &output.User{Name: args[0], Response: (*pb.AuthUserGetResponse)(r)}, err
			})
		},
	}
	cmd.Flags().BoolVar(&detail, "detail", false, "show what each of the roles may do")
	return cmd
}

// userDetail prints the roles of a user one after the other, as role get does, under a line of text in any format.
func userDetail(a *app, cmd *cobra.Command, name string) error {
	c, err := a.dial(cmd, nil)
	if err != nil {
		return err
	}
	defer closeQuietly(c)
	ctx, cancel := a.timed()
	defer cancel()
	user, err := c.UserGet(ctx, name)
	if err != nil {
		return a.explain(statusError, err)
	}
	if err := c.Line("User: " + name); err != nil {
		return printed(err)
	}
	for _, role := range user.Roles {
		if err := c.Line(""); err != nil {
			return printed(err)
		}
		r, err := c.RoleGet(ctx, role)
		if err != nil {
			return a.explain(statusError, err)
		}
		if err := c.Print(&output.Role{Name: role, Response: (*pb.AuthRoleGetResponse)(r)}); err != nil {
			return printed(err)
		}
	}
	return nil
}

func grantRole(ctx context.Context, c *call, user, role string) (*output.AuthChange, error) {
	r, err := c.UserGrantRole(ctx, user, role)
	return &output.AuthChange{Said: fmt.Sprintf("Role %s is granted to user %s", role, user), Response: (*pb.AuthUserGrantRoleResponse)(r)}, err
}

func revokeRole(ctx context.Context, c *call, user, role string) (*output.AuthChange, error) {
	r, err := c.UserRevokeRole(ctx, user, role)
	return &output.AuthChange{Said: fmt.Sprintf("Role %s is revoked from user %s", role, user), Response: (*pb.AuthUserRevokeRoleResponse)(r)}, err
}

func userRoleCommand(a *app, verb, short, long, usage string, change func(ctx context.Context, c *call, user, role string) (*output.AuthChange, error)) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " <user name> <role name>",
		Short: short,
		Long:  long,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fail(statusBadArgs, "%s", usage)
			}
			return authChange(a, cmd, func(ctx context.Context, c *call) (*output.AuthChange, error) {
				return change(ctx, c, args[0], args[1])
			})
		},
	}
}
