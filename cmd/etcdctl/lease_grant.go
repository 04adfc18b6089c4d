package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const leaseGrantHelp = `Makes a lease of <ttl> seconds and prints its ID. The servers may grant more seconds than asked for, never less.`

func (a *app) leaseGrant() *cobra.Command {
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
			c, err := a.dial(cmd, (*clientv3.LeaseGrantResponse)(nil))
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			ctx, cancel := a.timed()
			defer cancel()
			r, err := c.Grant(ctx, ttl)
			if err != nil {
				return a.explain(statusError, fmt.Errorf("failed to grant lease (%w)", err))
			}
			return printed(c.Print(r))
		},
	}
}
