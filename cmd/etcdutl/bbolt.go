package main

import (
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
	"go.etcd.io/bbolt/cmd/bbolt/command"

	"keelson/internal/offline"
)

const bboltHelp = `Looks into a state file (member/snap/db) or a snapshot as bbolt's own tool does. Those commands that go through bbolt's
trees check the file first; page, page-item, dump and surgery take damaged files, and write to a copy if they write.`

// bboltTrusting lists the commands of bbolt's tool that follow the references in a file wherever they lead, and that wait
// for ever for a member to let go of it.
func bboltTrusting() []string {
	return []string{"buckets", "check", "compact", "get", "info", "inspect", "keys", "pages", "stats"}
}

// bboltCommand mounts the commands of bbolt's tool.
func bboltCommand(a *app) *cobra.Command {
	cmd := command.NewRootCommand()
	cmd.Use, cmd.Short, cmd.Long, cmd.Version = "bbolt", "Looks into a state file as bbolt's own tool does", bboltHelp, ""
	for _, c := range cmd.Commands() {
		if run := c.RunE; run != nil && slices.Contains(bboltTrusting(), c.Name()) {
			c.RunE = func(c *cobra.Command, args []string) error {
				if len(args) > 0 {
					if err := offline.CheckStructure(args[0], a.set.timeout, a.logger()); err != nil {
						return failed(err)
					}
				}
				return run(c, args)
			}
		}
	}
	guardAll(cmd)
	return cmd
}

// guardAll turns into errors what damaged files do to bbolt's commands: panics, and memory faults.
func guardAll(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		guardAll(c)
	}
	run := cmd.RunE
	if run == nil {
		return
	}
	cmd.RunE = func(c *cobra.Command, args []string) (err error) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() {
			if r := recover(); r != nil {
				err = fail(statusError, "bbolt: the file is damaged: %s", fmt.Sprint(r))
			}
		}()
		return run(c, args)
	}
}
