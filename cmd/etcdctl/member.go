package main

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const memberHelp = `Shows and changes who belongs to the cluster. Change one member at a time, and see that all are healthy before the next:

  etcdctl member add NAME --peer-urls=http://HOST:2380   then start it with the variables that this prints
  etcdctl member remove ID                               a removed member stops by itself and can't come back
  etcdctl member add NAME --learner --peer-urls=…        one that gets the data without a vote; "promote" gives it one`

const memberListHelp = `Prints the members of the cluster. With -w simple a line holds ID, status, name, peer addresses, client addresses and
whether it is a learner. A member is "unstarted" until it has run for the first time.`

func memberCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "member <subcommand>",
		Short:   "Shows and changes who belongs to the cluster",
		Long:    memberHelp,
		GroupID: groupCluster,
	}
	cmd.AddCommand(memberListCommand(a), memberAddCommand(a), memberRemoveCommand(a), memberUpdateCommand(a), memberPromoteCommand(a))
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
