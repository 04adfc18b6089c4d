package main

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const endpointHashKVHelp = `Prints a hash of each endpoint's keys with their history, and the revision up to which it was made. Members whose data
are the same give equal hashes for equal revisions: name one with --rev while the cluster is written to.`

func endpointHashKVCommand(e *endpoints) *cobra.Command {
	rev := int64(0)
	cmd := &cobra.Command{
		Use:   "hashkv",
		Short: "Shows a hash of the keys and their history on each endpoint",
		Long:  endpointHashKVHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			failed, err := askEach(e, cmd, "hash", func(ctx context.Context, c *clientv3.Client, ep string) (output.HashKV, error) {
				r, err := c.HashKV(ctx, ep, rev)
				return output.HashKV{Endpoint: ep, Response: r}, err
			})
			if err != nil {
				return err
			}
			if failed != nil {
				return fail(statusError, "%w", failed)
			}
			return nil
		},
	}
	cmd.Flags().Int64Var(&rev, "rev", 0, "hash up to this revision (0: the latest)")
	return cmd
}
