package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/cmd/etcdctl/output"
)

const roleHelp = `Shows and changes roles: names for sets of permissions, which are given to users.

  etcdctl role add app
  etcdctl role grant-permission app readwrite /app/ --prefix
  etcdctl user grant-role ann app`

const (
	roleAddHelp    = `Makes a role that may do nothing yet.`
	roleDeleteHelp = `Deletes a role. The users who had it lose what it allowed, from the next call on.`
	roleGetHelp    = `Prints what a role may read and write. A permission of a range is shown as [first key, end): the end is not part of it.`
	roleListHelp   = `Prints the names of all roles, one a line.`
)

func roleCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "role <subcommand>",
		Short:   "Shows and changes roles and their permissions",
		Long:    roleHelp,
		GroupID: groupAuth,
	}
	cmd.AddCommand(roleAddCommand(a), roleDeleteCommand(a), roleGetCommand(a), roleListCommand(a), roleGrantCommand(a), roleRevokeCommand(a))
	return cmd
}

func roleAddCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "add <role name>",
		Short: "Makes a role",
		Long:  roleAddHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "role add command requires role name as its argument")
			}
			return authChange(a, cmd, func(ctx context.Context, c *call) (*output.AuthChange, error) {
				r, err := c.RoleAdd(ctx, args[0])
				return &output.AuthChange{Said: fmt.Sprintf("Role %s created", args[0]), Response: (*pb.AuthRoleAddResponse)(r)}, err
			})
		},
	}
}

func roleDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "delete <role name>",
		Short: "Deletes a role",
		Long:  roleDeleteHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "role delete command requires role name as its argument")
			}
			return authChange(a, cmd, func(ctx context.Context, c *call) (*output.AuthChange, error) {
				r, err := c.RoleDelete(ctx, args[0])
				return &output.AuthChange{Said: fmt.Sprintf("Role %s deleted", args[0]), Response: (*pb.AuthRoleDeleteResponse)(r)}, err
			})
		},
	}
}

func roleGetCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "get <role name>",
		Short: "Shows what a role may do",
		Long:  roleGetHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "role get command requires role name as its argument")
			}
			return a.ask(cmd, statusError, nil, func(ctx context.Context, c *call) (any, error) {
				r, err := c.RoleGet(ctx, args[0])
				return &output.Role{Name: args[0], Response: (*pb.AuthRoleGetResponse)(r)}, err
			})
		},
	}
}

func roleListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Lists all roles",
		Long:  roleListHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return fail(statusBadArgs, "role list command requires no arguments")
			}
			return a.ask(cmd, statusError, nil, func(ctx context.Context, c *call) (any, error) { return c.RoleList(ctx) })
		},
	}
}
