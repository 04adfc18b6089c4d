package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const defragHelp = `Has each endpoint write its state file anew, without the space that deleted and compacted revisions have left in it. A
member of this version serves all requests meanwhile; etcd stands still. One that takes longer than --command-timeout
finishes nevertheless.`

func defragCommand(a *app) *cobra.Command {
	e := &endpoints{app: a}
	cmd := &cobra.Command{
		Use:     "defrag",
		Short:   "Gives the disk what the members' state files no longer need",
		Long:    defragHelp,
		GroupID: groupCluster,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := a.prepare(cmd, nil); err != nil {
				return err
			}
			list, err := e.list()
			if err != nil {
				return err
			}
			failed := false
			for _, ep := range list {
				failed = !e.defrag(ep) || failed
			}
			if failed {
				return &exitError{status: statusError} // told above
			}
			return nil
		},
	}
	cmd.PersistentFlags().BoolVar(&e.cluster, "cluster", false, "ask all members of the cluster, not only --endpoints")
	return cmd
}

// defrag asks one endpoint and tells what came of it.
func (e *endpoints) defrag(endpoint string) bool {
	start := time.Now()
	err := e.one(endpoint, func(ctx context.Context, c *clientv3.Client) error {
		start = time.Now()
		_, err := c.Defragment(ctx, endpoint)
		return err
	})
	took := time.Since(start)
	if err != nil {
		fmt.Fprintf(e.diag, "Failed to defragment etcd member[%s]. took %s. (%v)\n", endpoint, took, err)
		e.tell(e.hint(err, []string{endpoint}))
		return false
	}
	fmt.Fprintf(e.out, "Finished defragmenting etcd member[%s]. took %s\n", endpoint, took)
	return true
}
