package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const (
	userAddHelp = `Makes a user, with a password that is asked for twice. A script gives it as the first word of the input:

  etcdctl user add ann --interactive=false < password-file

"user add ann:secret" and --new-user-password give it on the command line, where other users of the machine see it. A user
of --no-password can only log in by a client certificate whose common name is the user's.`
	userPasswdHelp = `Changes the password of a user, which is asked for twice, or the first word of the input with --interactive=false.`
)

// newUser is what user add is told.
type newUser struct {
	interactive, noPassword bool
	flagged                 string
}

func userAddCommand(a *app) *cobra.Command {
	u := &newUser{}
	cmd := &cobra.Command{
		Use:   "add <user name or user:password> [options]",
		Short: "Makes a user",
		Long:  userAddHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "user add command requires user name as its argument")
			}
			name, password, err := u.credentials(a, args[0])
			if err != nil {
				return err
			}
			if name == "" { // from the server it would mean that nobody is logged in: the client would try to, again and again
				return fail(statusError, "%w", rpctypes.ErrUserEmpty)
			}
			return authChange(a, cmd, func(ctx context.Context, c *call) (*output.AuthChange, error) {
				r, err := c.UserAddWithOptions(ctx, name, password, &clientv3.UserAddOptions{NoPassword: u.noPassword})
				return &output.AuthChange{Said: fmt.Sprintf("User %s created", name), Response: (*pb.AuthUserAddResponse)(r)}, err
			})
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&u.interactive, "interactive", true, "ask for the password; false: take the first word of the input")
	fs.StringVar(&u.flagged, "new-user-password", "", "the password of the new user")
	fs.BoolVar(&u.noPassword, "no-password", false, "make a user without a password, who logs in by a client certificate")
	return cmd
}

// credentials finds the password: none, by flag, behind the name, or asked for, in this order. Only where it is behind the
// name is that not the whole argument.
func (u *newUser) credentials(a *app, arg string) (name, password string, err error) {
	switch name, password, given := strings.Cut(arg, ":"); {
	case u.noPassword:
		return arg, "", nil
	case u.flagged != "":
		return arg, u.flagged, nil
	case !given:
		password, err := prompter{a.in, a.out}.newPassword(arg, u.interactive)
		return arg, password, err
	case name == "":
		return "", "", fail(statusBadArgs, "empty user name is not allowed")
	default:
		return name, password, nil
	}
}

func userPasswdCommand(a *app) *cobra.Command {
	interactive := true
	cmd := &cobra.Command{
		Use:   "passwd <user name> [options]",
		Short: "Changes the password of a user",
		Long:  userPasswdHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "user passwd command requires user name as its argument")
			}
			password, err := prompter{a.in, a.out}.newPassword(args[0], interactive)
			if err != nil {
				return err
			}
			return authChange(a, cmd, func(ctx context.Context, c *call) (*output.AuthChange, error) {
				r, err := c.UserChangePassword(ctx, args[0], password)
				return &output.AuthChange{Said: "Password updated", Response: (*pb.AuthUserChangePasswordResponse)(r)}, err
			})
		},
	}
	cmd.Flags().BoolVar(&interactive, "interactive", true, "ask for the password; false: take the first word of the input")
	return cmd
}
