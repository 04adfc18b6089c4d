package main

import (
	"github.com/spf13/cobra"

	"keelson/internal/kit/progress"
	"keelson/internal/offline"
)

const defragHelp = `Writes the state file of a data directory anew, without the space that deleted and compacted revisions have left in it,
while no member uses it. It needs room for the new file beside the old one. A member that runs is defragmented with
etcdctl defrag.`

func defragCommand(a *app) *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "defrag",
		Short: "Gives the disk what a state file no longer needs",
		Long:  defragHelp,
		RunE: func(*cobra.Command, []string) error {
			line := progress.OnTerminal(a.diag)
			err := offline.Defrag(dataDir, a.set.timeout, a.logger(), line.At)
			line.End()
			if err != nil {
				return fail(statusError, "Failed to defragment etcd data[%s] (%w)", dataDir, err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "data directory of a member that does not run")
	require(cmd, "data-dir")
	completeDirs(cmd, "data-dir")
	return cmd
}
