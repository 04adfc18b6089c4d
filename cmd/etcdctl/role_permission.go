package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const (
	roleGrantHelp = `Lets a role read, write or readwrite a key, the keys from <key> up to but without [endkey], those under a --prefix, or all
--from-key on. With "" and --prefix that is all keys. A range that a role has already gets the new kind of access.`
	roleRevokeHelp = `Takes a permission from a role. It is named exactly as it was granted: a part of a range can't be taken out of it.`
)

// permRange is the keys of a permission, as the arguments and flags name them.
type permRange struct{ prefix, fromKey bool }

func (p *permRange) bind(cmd *cobra.Command, verb string) {
	cmd.Flags().BoolVar(&p.prefix, "prefix", false, verb+" the keys that begin with the key")
	cmd.Flags().BoolVar(&p.fromKey, "from-key", false, verb+" the key and all behind it, in the order of their bytes")
}

// keyOpen ends a range that has no end; it is also the first key.
const keyOpen = "\x00"

// of gives key and end of the range. The server wants a key that is not empty: for all keys that is the first there can be.
func (p *permRange) of(args []string) (key, end string, err error) {
	key = args[0]
	switch {
	case len(args) > 1 && key != "" && p.prefix:
		return "", "", fail(statusBadArgs, "unexpected endkey argument with --prefix flag")
	case len(args) > 1 && key != "" && p.fromKey:
		return "", "", fail(statusBadArgs, "unexpected endkey argument with --from-key flag")
	case p.prefix && p.fromKey:
		return "", "", fail(statusBadArgs, "--from-key and --prefix flags are mutually exclusive")
	case key == "" && (p.prefix || p.fromKey):
		return keyOpen, keyOpen, nil
	case key == "":
		return keyOpen, "", nil // etcdctl takes no notice of an end key here
	case len(args) > 1:
		return key, args[1], nil
	case p.prefix:
		return key, clientv3.GetPrefixRangeEnd(key), nil
	case p.fromKey:
		return key, keyOpen, nil
	}
	return key, "", nil
}

func roleGrantCommand(a *app) *cobra.Command {
	p := &permRange{}
	cmd := &cobra.Command{
		Use:   "grant-permission [options] <role name> <permission type> <key> [endkey]",
		Short: "Lets a role read or write keys",
		Long:  roleGrantHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 {
				return fail(statusBadArgs, "role grant command requires role name, permission type, and key [endkey] as its argument")
			}
			kind, err := clientv3.StrToPermissionType(args[1])
			if err != nil {
				return fail(statusBadArgs, "%w", err)
			}
			key, end, err := p.of(args[2:])
			if err != nil {
				return err
			}
			return authChange(a, cmd, func(ctx context.Context, c *call) (*output.AuthChange, error) {
				r, err := c.RoleGrantPermission(ctx, args[0], key, end, kind)
				return &output.AuthChange{Said: fmt.Sprintf("Role %s updated", args[0]), Response: (*pb.AuthRoleGrantPermissionResponse)(r)}, err
			})
		},
	}
	p.bind(cmd, "grant")
	return cmd
}

func roleRevokeCommand(a *app) *cobra.Command {
	p := &permRange{}
	cmd := &cobra.Command{
		Use:   "revoke-permission <role name> <key> [endkey]",
		Short: "Takes a permission from a role",
		Long:  roleRevokeHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fail(statusBadArgs, "role revoke-permission command requires role name and key [endkey] as its argument")
			}
			key, end, err := p.of(args[1:])
			if err != nil {
				return err
			}
			return authChange(a, cmd, func(ctx context.Context, c *call) (*output.AuthChange, error) {
				r, err := c.RoleRevokePermission(ctx, args[0], key, end)
				return &output.AuthChange{Said: output.RevokedPermission(args[0], args[1], end), Response: (*pb.AuthRoleRevokePermissionResponse)(r)}, err
			})
		},
	}
	p.bind(cmd, "revoke")
	return cmd
}
