package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

const snapshotHelp = `Saves snapshots of a member's database. What a snapshot holds, and the way back from it, are etcdutl's:

  etcdctl --endpoints=10.0.0.1:2379 snapshot save backup.db
  etcdutl snapshot status backup.db
  etcdutl snapshot restore backup.db --data-dir restored.etcd`

func snapshotCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "snapshot <subcommand>",
		Short:   "Saves a snapshot of a member's database",
		Long:    snapshotHelp,
		GroupID: groupCluster,
		// Scripts of etcd 3.5 and older call status and restore here; 3.6 moved them to etcdutl and shows the help.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				fmt.Fprintf(a.diag, "etcdctl snapshot %s: there is no such command; use etcdutl snapshot, which works on files.\n", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(snapshotSaveCommand(a))
	return cmd
}
