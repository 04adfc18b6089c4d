package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"keelson/cmd/etcdctl/output"
)

const leaseRevokeHelp = `Ends a lease now. Every key that is attached to it is deleted.`

func leaseRevokeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke <leaseID>",
		Short: "Ends a lease and deletes its keys",
		Long:  leaseRevokeHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "lease revoke command needs 1 argument")
			}
			id, err := leaseID(args[0])
			if err != nil {
				return err
			}
			return a.ask(cmd, statusError, (*output.Revoked)(nil), func(ctx context.Context, c *call) (any, error) {
				r, err := c.Revoke(ctx, id)
				if err != nil {
					return nil, fmt.Errorf("failed to revoke lease (%w)", err)
				}
				return &output.Revoked{ID: id, LeaseRevokeResponse: r}, nil
			})
		},
	}
}
