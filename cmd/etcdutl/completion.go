package main

import (
	"github.com/spf13/cobra"

	"keelson/internal/kit/completion"
)

func completionCommand(a *app, root *cobra.Command) *cobra.Command {
	return completion.Command(root, a.out, func(err error) error { return &exitError{status: statusIO, err: err} })
}
