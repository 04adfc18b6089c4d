package main

import (
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const leaseTimeToLiveHelp = `Prints how many seconds a lease was granted and how many are left.`

func (a *app) leaseTimeToLive() *cobra.Command {
	keys := false
	cmd := &cobra.Command{
		Use:   "timetolive <leaseID> [options]",
		Short: "Shows how long a lease still lives",
		Long:  leaseTimeToLiveHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "lease timetolive command needs lease ID as argument")
			}
			id, err := leaseID(args[0])
			if err != nil {
				return err
			}
			var opts []clientv3.LeaseOption
			if keys {
				opts = append(opts, clientv3.WithAttachedKeys())
			}
			c, err := a.dial(cmd, nil)
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			ctx, cancel := a.timed()
			defer cancel()
			r, err := c.TimeToLive(ctx, id, opts...)
			if err != nil {
				return a.explain(statusBadConnection, err)
			}
			return printed(c.Print(&output.Remaining{LeaseTimeToLiveResponse: r, WithKeys: keys}))
		},
	}
	cmd.Flags().BoolVar(&keys, "keys", false, "print also the keys attached to it")
	return cmd
}
