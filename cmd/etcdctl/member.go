package main

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const memberListHelp = `Prints the members of the cluster. With -w simple a line holds ID, status, name, peer addresses, client addresses and
whether it is a learner. A member is "unstarted" until it has run for the first time.`

func memberCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "member <subcommand>",
		Short:   "Shows the members of the cluster",
		Long:    "Shows the members of the cluster.",
		GroupID: groupCluster,
	}
	cmd.AddCommand(memberListCommand(a))
	return cmd
}

func memberListCommand(a *app) *cobra.Command {
	consistency := "l"
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Lists all members of the cluster",
		Long:  memberListHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			serializable, err := isSerializable(consistency)
			if err != nil {
				return err
			}
			var opts []clientv3.OpOption
			if serializable {
				opts = append(opts, clientv3.WithSerializable())
			}
			return a.ask(cmd, statusError, nil, func(ctx context.Context, c *call) (any, error) {
				return c.MemberList(ctx, opts...)
			})
		},
	}
	cmd.Flags().StringVar(&consistency, "consistency", "l", "l: linearizable; s: serializable, as the member that answers knows it")
	return cmd
}
