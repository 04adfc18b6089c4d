package main

import "github.com/spf13/cobra"

const snapshotHelp = `Tells what a saved snapshot holds, and makes data directories from one.

A snapshot is the state file of a member with a checksum behind it. It is saved from a member that runs:

  etcdctl --endpoints=10.0.0.1:2379 snapshot save backup.db`

func snapshotCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot <subcommand>",
		Short: "Tells what a snapshot holds and restores from it",
		Long:  snapshotHelp,
	}
	cmd.AddCommand(snapshotStatusCommand(a), snapshotRestoreCommand(a))
	return cmd
}
