package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"keelson/cmd/etcdctl/output"
)

const leaseRevokeHelp = `Ends a lease now. Every key that is attached to it is deleted.`

func (a *app) leaseRevoke() *cobra.Command {
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
			c, err := a.dial(cmd, (*output.Revoked)(nil))
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			ctx, cancel := a.timed()
			defer cancel()
			r, err := c.Revoke(ctx, id)
			if err != nil {
				return a.explain(statusError, fmt.Errorf("failed to revoke lease (%w)", err))
			}
			return printed(c.Print(&output.Revoked{ID: id, LeaseRevokeResponse: r}))
		},
	}
}
