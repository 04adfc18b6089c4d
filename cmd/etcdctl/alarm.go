package main

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const alarmListHelp = `Prints the alarms that are raised; nothing where all is well. NOSPACE: a member's database is at its quota, and writes are
refused. CORRUPT: a member's data differ from the others'.`

func alarmCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "alarm <subcommand>",
		Short:   "Shows and clears the alarms of the cluster",
		Long:    "Shows and clears the alarms of the cluster.",
		GroupID: groupCluster,
	}
	cmd.AddCommand(alarmListCommand(a), alarmDisarmCommand(a))
	return cmd
}

const alarmDisarmHelp = `Clears all alarms and prints those that were raised. First remove the cause: NOSPACE comes back with the next write as long
as the database is at its quota (delete keys, compact, defragment); CORRUPT does not come back by itself, so replace the
member that differs before.`

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

func alarmDisarmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "disarm",
		Short: "Clears all alarms",
		Long:  alarmDisarmHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return fail(statusBadArgs, "alarm disarm command accepts no arguments")
			}
			return a.ask(cmd, statusError, nil, func(ctx context.Context, c *call) (any, error) {
				return c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
			})
		},
	}
}
