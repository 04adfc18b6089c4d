package main

import "github.com/spf13/cobra"

const leaseListHelp = `Prints the IDs of all leases that have not ended.`

func (a *app) leaseList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Lists all leases",
		Long:  leaseListHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(cmd, nil)
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			ctx, cancel := a.timed()
			defer cancel()
			r, err := c.Leases(ctx)
			if err != nil {
				return a.explain(statusBadConnection, err)
			}
			return printed(c.Print(r))
		},
	}
}
