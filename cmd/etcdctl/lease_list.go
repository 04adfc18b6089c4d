package main

import (
	"context"

	"github.com/spf13/cobra"
)

const leaseListHelp = `Prints the IDs of all leases that have not ended.`

func leaseListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Lists all leases",
		Long:  leaseListHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd, statusBadConnection, nil, func(ctx context.Context, c *call) (any, error) {
				return c.Leases(ctx)
			})
		},
	}
}
