package main

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const downgradeHelp = `Leads the cluster to the minor version before its own. After "enable", wait until "etcdctl endpoint status" shows the target
as storage version of every member; then replace the members by the older version, one by one, each on its own data
directory. When all of them run it, the downgrade has ended. "cancel" calls it off before that.`

const (
	downgradeValidateHelp = `Tells whether the cluster can go down to a version, such as 3.6, and changes nothing.`
	downgradeEnableHelp   = `Begins a downgrade to a version, such as 3.6: the one minor version before the cluster's. Within seconds the leader lowers
the cluster version, and each member makes its data directory readable by the older version.`
	downgradeCancelHelp = `Calls a downgrade off that was begun: the cluster version rises again as soon as all members are new enough.`
)

func downgradeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "downgrade <subcommand>",
		Short:   "Leads the cluster to an older minor version",
		Long:    downgradeHelp,
		GroupID: groupCluster,
	}
	cmd.AddCommand(
		targetCommand(a, "validate", clientv3.DowngradeValidate, "Tells whether the cluster can go down to a version", downgradeValidateHelp),
		targetCommand(a, "enable", clientv3.DowngradeEnable, "Begins a downgrade", downgradeEnableHelp),
		&cobra.Command{
			Use:   "cancel",
			Short: "Calls a downgrade off",
			Long:  downgradeCancelHelp,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.downgrade(cmd, clientv3.DowngradeCancel, "cancel", "")
			},
		},
	)
	return cmd
}

func targetCommand(a *app, step string, action clientv3.DowngradeAction, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:   step + " <TARGET_VERSION>",
		Short: short,
		Long:  long,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) < 1:
				return fail(statusBadArgs, "TARGET_VERSION not provided")
			case len(args) > 1:
				return fail(statusBadArgs, "too many arguments")
			case args[0] == "":
				return fail(statusBadArgs, "target version not provided")
			}
			return a.downgrade(cmd, action, step, args[0])
		},
	}
}

func (a *app) downgrade(cmd *cobra.Command, action clientv3.DowngradeAction, step, target string) error {
	return a.ask(cmd, statusError, (*output.Downgrade)(nil), func(ctx context.Context, c *call) (any, error) {
		r, err := c.Downgrade(ctx, action, target)
		return &output.Downgrade{Step: step, DowngradeResponse: r}, err
	})
}
