package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// subcommands are programs of their own that share the binary, by their first argument. Their flags are theirs alone, and take
// two dashes, as etcd's do.
var subcommands = map[string]func() *cobra.Command{
	"gateway":    gatewayCommand,
	"grpc-proxy": grpcProxyCommand,
	"discovery":  discoveryCommand,
}

// runSubcommand does what a subcommand's command line says and answers the exit status.
func runSubcommand(build func() *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{Use: "etcd", SilenceErrors: true, SilenceUsage: true}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(build())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "%s: %v\n\nSee %s --help.\n", cmd.CommandPath(), err, cmd.CommandPath())
	return exitFailed
}

// groupOf is a command that only has others.
func groupOf(name, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: name, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no %q: give one of %s", args[0], strings.Join(namesOf(commands), ", "))
			}
			return cmd.Help()
		},
	}
	c.AddCommand(commands...)
	return c
}

func namesOf(commands []*cobra.Command) (names []string) {
	for _, c := range commands {
		names = append(names, c.Name())
	}
	return names
}
