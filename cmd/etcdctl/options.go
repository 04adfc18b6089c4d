package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const optionsHelp = `Lists the flags that every command takes. Each can be set in the environment too: --dial-timeout is
ETCDCTL_DIAL_TIMEOUT. A flag on the command line wins.`

func optionsCommand(a *app, root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "options",
		Short:   "Lists the flags that every command takes",
		Long:    optionsHelp,
		GroupID: groupOther,
		Run: func(*cobra.Command, []string) {
			shown := pflag.NewFlagSet("global", pflag.ContinueOnError)
			root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
				visible := *f
				visible.Hidden = false
				shown.AddFlag(&visible)
			})
			fmt.Fprint(a.out, "The following options can be passed to any command:\n\n", shown.FlagUsages())
		},
	}
}
