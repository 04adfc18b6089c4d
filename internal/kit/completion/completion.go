// Package completion is the command that teaches a shell to complete a program's commands: one for all programs.
package completion

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// help has PROGRAM for the program's name.
const help = `Prints a script that teaches a shell to complete PROGRAM's commands and flags.

  bash          source <(PROGRAM completion bash)
                for every session: PROGRAM completion bash > /etc/bash_completion.d/PROGRAM
  zsh           PROGRAM completion zsh > "${fpath[1]}/_PROGRAM"
                needs: autoload -U compinit; compinit
  fish          PROGRAM completion fish > ~/.config/fish/completions/PROGRAM.fish
  powershell    PROGRAM completion powershell | Out-String | Invoke-Expression`

// Command gives the completion command of the program whose root command is root. Its script goes to w; fail makes the
// program's own error of one of writing it.
func Command(root *cobra.Command, w io.Writer, fail func(error) error) *cobra.Command {
	return &cobra.Command{
		Use:                   "completion [bash|zsh|fish|powershell]",
		Short:                 "Prints a completion script for a shell",
		Long:                  strings.ReplaceAll(help, "PROGRAM", root.Name()),
		DisableFlagsInUseLine: true,
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := write(root, args[0], w); err != nil {
				return fail(fmt.Errorf("write the completion script: %w", err))
			}
			return nil
		},
	}
}

func write(root *cobra.Command, shell string, w io.Writer) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(w, true)
	case "zsh":
		return root.GenZshCompletion(w)
	case "fish":
		return root.GenFishCompletion(w, true)
	default: // the command's Args let no other through
		return root.GenPowerShellCompletionWithDesc(w)
	}
}
