package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const compactionHelp = `Forgets what keys were before <revision>: older revisions can no longer be read or watched. What the keys are at
<revision> and later stays. This cannot be taken back.`

func compactionCommand(a *app) *cobra.Command {
	physical := false
	cmd := &cobra.Command{
		Use:     "compaction [options] <revision>",
		Short:   "Forgets the history of the keys before a revision",
		Long:    compactionHelp,
		GroupID: groupKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "compaction command needs 1 argument")
			}
			rev, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fail(statusError, "%w", err)
			}
			var opts []clientv3.CompactOption
			if physical {
				opts = append(opts, clientv3.WithCompactPhysical())
			}
			c, err := a.dial(cmd, nil)
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			ctx, cancel := a.timed()
			defer cancel()
			if _, err := c.Compact(ctx, rev, opts...); err != nil {
				return a.explain(statusError, err)
			}
			return printed(c.Line(fmt.Sprintf("compacted revision %d", rev)))
		},
	}
	cmd.Flags().BoolVar(&physical, "physical", false, "answer only when the old revisions are gone from the disk")
	return cmd
}
