package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/cmd/etcdctl/output"
)

const authHelp = `Turns authentication on or off, and tells whether it is on. From then on each call needs a user who may make it:

  etcdctl user add root                          the user who may do all; keep its password
  etcdctl auth enable
  etcdctl --user root role add app
  etcdctl --user root role grant-permission app readwrite /app/ --prefix
  etcdctl --user root user add ann
  etcdctl --user root user grant-role ann app

Passwords go over the wire as they are: use TLS.`

const (
	authEnableHelp = `Turns authentication on. It needs a user root; the role root is made and given to that user where it is missing. Whoever is
connected without a user is refused from then on.`
	authDisableHelp = `Turns authentication off: whoever reaches the cluster may do everything. Users and roles stay.`
	authStatusHelp  = `Tells whether authentication is on, and the revision of users and roles, which each change of them raises.`
)

func authCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "auth <subcommand>",
		Short:   "Turns authentication on or off",
		Long:    authHelp,
		GroupID: groupAuth,
	}
	cmd.AddCommand(authEnableCommand(a), authDisableCommand(a), authStatusCommand(a))
	return cmd
}

func authEnableCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "enable",
		Short: "Turns authentication on",
		Long:  authEnableHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			return switchAuth(a, cmd, args, "enable", "Authentication Enabled", enableAuth)
		},
	}
}

func authDisableCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "disable",
		Short: "Turns authentication off",
		Long:  authDisableHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			return switchAuth(a, cmd, args, "disable", "Authentication Disabled", func(ctx context.Context, c *call) error {
				_, err := c.AuthDisable(ctx)
				return err
			})
		},
	}
}

// switchAuth is the whole of a verb that answers with one line of text in any format.
func switchAuth(a *app, cmd *cobra.Command, args []string, verb, done string, change func(context.Context, *call) error) error {
	if len(args) != 0 {
		return fail(statusBadArgs, "auth %s command does not accept any arguments", verb)
	}
	c, err := a.dial(cmd, nil)
	if err != nil {
		return err
	}
	defer closeQuietly(c)
	ctx, cancel := a.timed()
	defer cancel()
	if err := change(ctx, c); err != nil {
		return a.explain(statusError, err)
	}
	return printed(c.Line(done))
}

// enableAuth gives user root its role where that is missing, and tries again: each round mends what the one before lacked.
func enableAuth(ctx context.Context, c *call) error {
	for {
		_, err := c.AuthEnable(ctx)
		if !errors.Is(err, rpctypes.ErrRootRoleNotExist) {
			return err
		}
		if _, err := c.RoleAdd(ctx, roleRoot); err != nil {
			return err
		}
		if _, err := c.UserGrantRole(ctx, userRoot, roleRoot); err != nil {
			return err
		}
	}
}

func authStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tells whether authentication is on",
		Long:  authStatusHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return fail(statusBadArgs, "auth status command does not accept any arguments")
			}
			return a.ask(cmd, statusError, nil, func(ctx context.Context, c *call) (any, error) { return c.AuthStatus(ctx) })
		},
	}
}

// The user and the role that may do all.
const (
	userRoot = "root"
	roleRoot = "root"
)

// authHint says what to do about a refusal by the auth store, "" for other errors.
func authHint(err error) string {
	for known, hint := range map[error]string{
		rpctypes.ErrUserEmpty:        "authentication is on: name a user with --user, or ETCDCTL_USER",
		rpctypes.ErrPermissionDenied: "see what the user may do: etcdctl --user root user get NAME --detail",
		rpctypes.ErrRootUserNotExist: "make it first: etcdctl user add root",
		rpctypes.ErrAuthFailed:       "see --user and --password, or ETCDCTL_USER and ETCDCTL_PASSWORD",
		rpctypes.ErrInvalidAuthToken: "the token of --auth-jwt-token has expired, or another key signed it",
	} {
		if errors.Is(err, known) {
			return hint
		}
	}
	return ""
}

// authChange is the whole of a verb that changes users or roles.
func authChange(a *app, cmd *cobra.Command, change func(context.Context, *call) (*output.AuthChange, error)) error {
	return a.ask(cmd, statusError, (*output.AuthChange)(nil), func(ctx context.Context, c *call) (any, error) { return change(ctx, c) })
}
