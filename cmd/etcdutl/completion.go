package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

const completionHelp = `Prints a script that teaches a shell to complete etcdutl's commands and flags.

  bash          source <(etcdutl completion bash)
                for every session: etcdutl completion bash > /etc/bash_completion.d/etcdutl
  zsh           etcdutl completion zsh > "${fpath[1]}/_etcdutl"
                needs: autoload -U compinit; compinit
  fish          etcdutl completion fish > ~/.config/fish/completions/etcdutl.fish
  powershell    etcdutl completion powershell | Out-String | Invoke-Expression`

func completionCommand(a *app, root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:                   "completion [bash|zsh|fish|powershell]",
		Short:                 "Prints a completion script for a shell",
		Long:                  completionHelp,
		DisableFlagsInUseLine: true,
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			var err error
			switch args[0] {
			case "bash":
				err = root.GenBashCompletionV2(a.out, true)
			case "zsh":
				err = root.GenZshCompletion(a.out)
			case "fish":
				err = root.GenFishCompletion(a.out, true)
			case "powershell":
				err = root.GenPowerShellCompletionWithDesc(a.out)
			}
			if err != nil {
				return &exitError{status: statusIO, err: fmt.Errorf("write the completion script: %w", err)}
			}
			return nil
		},
	}
}
