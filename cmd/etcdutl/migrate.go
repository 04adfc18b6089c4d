package main

import (
	"github.com/spf13/cobra"

	"keelson/internal/offline"
)

const migrateHelp = `Moves the state file of a data directory to the layout of another minor version, 3.5 to 3.7, while no member uses it.

To go down, lead the whole cluster there while it runs: etcdctl downgrade. This is for a directory whose cluster
cannot be started. It is refused while the log holds what the older version could not read; --force writes the version
nevertheless, and may lose what was acknowledged.`

func migrateCommand(a *app) *cobra.Command {
	var (
		m      offline.Migrate
		target string
	)
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Moves a data directory to the layout of another minor version",
		Long:  migrateHelp,
		RunE: func(*cobra.Command, []string) error {
			v, err := offline.ParseTarget(target)
			if err != nil {
				return &exitError{statusBadArgs, err}
			}
			m.Target, m.Wait, m.Logger = v, a.set.timeout, a.logger()
			return failed(m.Run())
		},
	}
	cmd.Flags().StringVar(&m.DataDir, "data-dir", "", "data directory of a member that does not run")
	cmd.Flags().StringVar(&target, "target-version", "", `version of etcd to migrate to, "X.Y", such as 3.6; at least 3.5`)
	cmd.Flags().BoolVar(&m.Force, "force", false, "write the version although the checks fail (not recommended)")
	require(cmd, "data-dir", "target-version")
	completeDirs(cmd, "data-dir")
	return cmd
}
