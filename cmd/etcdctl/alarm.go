package main

import "github.com/spf13/cobra"

const alarmListHelp = `Prints the alarms that are raised; nothing where all is well. NOSPACE: a member's database is at its quota, and writes are
refused. CORRUPT: a member's data differ from the others'.`

func (a *app) alarm() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "alarm <subcommand>",
		Short:   "Shows the alarms of the cluster",
		Long:    "Shows the alarms of the cluster.",
		GroupID: groupCluster,
	}
	cmd.AddCommand(a.alarmList())
	return cmd
}

func (a *app) alarmList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Lists all alarms",
		Long:  alarmListHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return fail(statusBadArgs, "alarm list command accepts no arguments")
			}
			c, err := a.dial(cmd, nil)
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			ctx, cancel := a.timed()
			defer cancel()
			r, err := c.AlarmList(ctx)
			if err != nil {
				return a.explain(statusError, err)
			}
			return printed(c.Print(r))
		},
	}
}
