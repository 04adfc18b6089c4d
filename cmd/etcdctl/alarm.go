package main

import (
	"context"

	"github.com/spf13/cobra"
)

const alarmListHelp = `Prints the alarms that are raised; nothing where all is well. NOSPACE: a member's database is at its quota, and writes are
refused. CORRUPT: a member's data differ from the others'.`

func alarmCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "alarm <subcommand>",
		Short:   "Shows the alarms of the cluster",
		Long:    "Shows the alarms of the cluster.",
		GroupID: groupCluster,
	}
	cmd.AddCommand(alarmListCommand(a))
	return cmd
}

func alarmListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Lists all alarms",
		Long:  alarmListHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return fail(statusBadArgs, "alarm list command accepts no arguments")
			}
			return a.ask(cmd, statusError, nil, func(ctx context.Context, c *call) (any, error) {
				return c.AlarmList(ctx)
			})
		},
	}
}
