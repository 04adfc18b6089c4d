package main

import (
	"time"

	"github.com/spf13/cobra"
)

const rootHelp = `etcdutl works on the files of an etcd member that does not run. It needs no server; for one that runs there is etcdctl.

A backup, and the way back from it to a new cluster of one member:

  etcdctl --endpoints=10.0.0.1:2379 snapshot save backup.db
  etcdutl snapshot status backup.db -w table
  etcdutl snapshot restore backup.db --name m1 --data-dir m1.etcd \
      --initial-cluster m1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380`

// timeoutDefault is how long another process is waited for, etcd's.
const timeoutDefault = 10 * time.Second

// settings are the global flags.
type settings struct {
	timeout time.Duration
	format  string
}

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "etcdutl",
		Short:         "Works on the files of an etcd member that does not run",
		Long:          rootHelp,
		SuggestFor:    []string{"etcdutl"},
		SilenceErrors: true, // report prints them
		SilenceUsage:  true,
	}
	root.SetOut(a.out)
	root.SetErr(a.diag)
	cobra.EnablePrefixMatching = true // "etcdutl snap stat x.db", as etcd's
	root.CompletionOptions.DisableDefaultCmd = true

	flags := root.PersistentFlags()
	flags.DurationVar(&a.set.timeout, "timeout", timeoutDefault, "wait this long for another process to let go of a file (0: for ever)")
	flags.StringVarP(&a.set.format, "write-out", "w", "simple", "output format: fields, json, protobuf, simple or table")
	complete(root, "write-out", "fields", "json", "protobuf", "simple", "table")
	root.AddCommand(snapshotCommand(a), defragCommand(a), hashKVCommand(a), migrateCommand(a), bboltCommand(a),
		versionCommand(a), completionCommand(a, root))
	return root
}

// complete completes a flag with the words it takes.
func complete(cmd *cobra.Command, flag string, words ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveDefault))
	if err != nil {
		panic(err) // cmd has no such flag
	}
}

// completeDirs completes flags with directories.
func completeDirs(cmd *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := cmd.MarkFlagDirname(f); err != nil {
			panic(err) // cmd has no such flag
		}
	}
}

// require makes flags compulsory.
func require(cmd *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := cmd.MarkFlagRequired(f); err != nil {
			panic(err) // cmd has no such flag
		}
	}
}
