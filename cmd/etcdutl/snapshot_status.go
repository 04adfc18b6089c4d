package main

import (
	"github.com/spf13/cobra"

	"keelson/internal/offline"
)

const snapshotStatusHelp = `Checks a snapshot (its checksum and its structure) and prints what it holds. With -w simple the line has hash, revision,
number of live keys, size and storage version.

The hash is over everything in the file. Two snapshots of one moment and member have the same; to compare members take
etcdutl hashkv.`

func snapshotStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status <filename>",
		Short: "Checks a snapshot and prints what it holds",
		Long:  snapshotStatusHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "snapshot status requires exactly one argument")
			}
			if err := a.checkFormat(); err != nil {
				return err
			}
			s, err := offline.SnapshotStatus(cmd.Context(), args[0])
			if err != nil {
				return failed(err)
			}
			return a.print(statusAnswer(s))
		},
	}
}
