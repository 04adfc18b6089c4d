package main

import (
	"github.com/spf13/cobra"

	"keelson/internal/offline"
)

const hashKVHelp = `Prints a hash of the keys in a snapshot or in a state file (member/snap/db), with their history. It equals the hash that
a member with this file gives (etcdctl endpoint hashkv): members whose data are the same give equal hashes for equal
revisions. The file is not changed.`

func hashKVCommand(a *app) *cobra.Command {
	rev := int64(0)
	cmd := &cobra.Command{
		Use:   "hashkv <filename>",
		Short: "Prints a hash of the keys and their history in a file",
		Long:  hashKVHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			h, err := offline.HashFile(cmd.Context(), args[0], rev, a.set.timeout, a.logger())
			if err != nil {
				return failed(err)
			}
			return a.print(hashAnswer(h))
		},
	}
	cmd.Flags().Int64Var(&rev, "rev", 0, "hash up to this revision (0: the latest)")
	return cmd
}
