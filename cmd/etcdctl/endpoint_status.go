package main

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const endpointStatusHelp = `Prints the state of each endpoint, best with -w table. With -w simple a line holds endpoint, ID, version, storage version,
database size, size in use, percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied
index, errors, downgrade target version, downgrade enabled.`

func (a *app) endpointStatus(cluster *bool) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Shows version, size, leader and raft index of each endpoint",
		Long:  endpointStatusHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answers []output.Status
			c, err := a.prepare(cmd, nil)
			if err != nil {
				return err
			}
			endpoints, err := a.eachOf(*cluster)
			if err != nil {
				return err
			}
			failed := a.askEach(endpoints, "status", func(ctx context.Context, c *clientv3.Client, ep string) error {
				r, err := c.Status(ctx, ep)
				if err == nil {
					answers = append(answers, output.Status{Endpoint: ep, Response: r})
				}
				return err
			})
			if err := c.Print(answers); err != nil {
				return printed(err)
			}
			if failed != nil {
				return &exitError{status: statusError} // told above
			}
			return nil
		},
	}
}
