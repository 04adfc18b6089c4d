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

func endpointStatusCommand(e *endpoints) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Shows version, size, leader and raft index of each endpoint",
		Long:  endpointStatusHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			failed, err := askEach(e, cmd, "status", func(ctx context.Context, c *clientv3.Client, ep string) (output.Status, error) {
				r, err := c.Status(ctx, ep)
				return output.Status{Endpoint: ep, Response: r}, err
			})
			if err != nil {
				return err
			}
			if failed != nil {
				return &exitError{status: statusError} // told above
			}
			return nil
		},
	}
}
