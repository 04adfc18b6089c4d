package main

import (
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const memberListHelp = `Prints the members of the cluster. With -w simple a line holds ID, status, name, peer addresses, client addresses and
whether it is a learner. A member is "unstarted" until it has run for the first time.`

func (a *app) member() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "member <subcommand>",
		Short:   "Shows the members of the cluster",
		Long:    "Shows the members of the cluster.",
		GroupID: groupCluster,
	}
	cmd.AddCommand(a.memberList())
	return cmd
}

func (a *app) memberList() *cobra.Command {
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
			c, err := a.dial(cmd, nil)
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			ctx, cancel := a.timed()
			defer cancel()
			r, err := c.MemberList(ctx, opts...)
			if err != nil {
				return a.explain(statusError, err)
			}
			return printed(c.Print(r))
		},
	}
	cmd.Flags().StringVar(&consistency, "consistency", "l", "l: linearizable; s: serializable, as the member that answers knows it")
	return cmd
}
