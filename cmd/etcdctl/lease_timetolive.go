package main

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const leaseTimeToLiveHelp = `Prints how many seconds a lease was granted and how many are left.`

func leaseTimeToLiveCommand(a *app) *cobra.Command {
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
			return a.ask(cmd, statusBadConnection, nil, func(ctx context.Context, c *call) (any, error) {
				r, err := c.TimeToLive(ctx, id, opts...)
				if err != nil {
					return nil, err
				}
				return &output.Remaining{LeaseTimeToLiveResponse: r, WithKeys: keys}, nil
			})
		},
	}
	cmd.Flags().BoolVar(&keys, "keys", false, "print also the keys attached to it")
	return cmd
}
