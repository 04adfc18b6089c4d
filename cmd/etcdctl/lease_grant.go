package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const leaseGrantHelp = `Makes a lease of <ttl> seconds and prints its ID. The servers may grant more seconds than asked for, never less.`

func leaseGrantCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "grant <ttl>",
		Short: "Makes a lease of so many seconds",
		Long:  leaseGrantHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "lease grant command needs TTL argument")
			}
			ttl, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fail(statusBadArgs, "bad TTL (%w)", err)
			}
			return a.ask(cmd, statusError, (*clientv3.LeaseGrantResponse)(nil), func(ctx context.Context, c *call) (any, error) {
				r, err := c.Grant(ctx, ttl)
				if err != nil {
					return nil, fmt.Errorf("failed to grant lease (%w)", err)
				}
				return r, nil
			})
		},
	}
}
