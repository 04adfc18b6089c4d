package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The groups of the help page.
const (
	groupKeys        = "keys"
	groupCluster     = "cluster"
	groupConcurrency = "concurrency"
	groupAuth        = "auth"
	groupOther       = "other"
)

const rootHelp = `etcdctl reads and changes the keys of an etcd cluster and shows how its members are.

It asks the member on 127.0.0.1:2379 unless --endpoints or ETCDCTL_ENDPOINTS names others, one or more:

  etcdctl --endpoints=10.0.0.1:2379,10.0.0.2:2379 endpoint status --cluster -w table

When something is wrong, look here first:

  etcdctl endpoint health --cluster      does every member answer and commit?
  etcdctl endpoint status --cluster      who leads, how far is each, how large is its database?
  etcdctl alarm list                     is the cluster out of space, or damaged?
  etcdctl member list                    who belongs to it?`

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "etcdctl",
		Short:         "Reads and changes the keys of an etcd cluster",
		Long:          rootHelp,
		SuggestFor:    []string{"etcdctl"},
		SilenceErrors: true, // report prints them
		SilenceUsage:  true,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.diag)
	cobra.EnablePrefixMatching = true // "etcdctl comp 7", as etcd's

	a.set.bind(root.PersistentFlags())
	complete(root, "write-out", "fields", "json", "protobuf", "simple", "table")
	root.AddGroup(
		&cobra.Group{ID: groupKeys, Title: "Keys, watches and leases"},
		&cobra.Group{ID: groupCluster, Title: "The cluster and its members"},
		&cobra.Group{ID: groupConcurrency, Title: "Locks and elections"},
		&cobra.Group{ID: groupAuth, Title: "Users and roles"},
		&cobra.Group{ID: groupOther, Title: "About etcdctl"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.AddCommand(
		putCommand(a), getCommand(a), delCommand(a), txnCommand(a), watchCommand(a), leaseCommand(a), compactionCommand(a),
		endpointCommand(a), memberCommand(a), moveLeaderCommand(a), alarmCommand(a), defragCommand(a), downgradeCommand(a), snapshotCommand(a),
		lockCommand(a), electCommand(a),
		authCommand(a), userCommand(a), roleCommand(a),
		checkCommand(a), makeMirrorCommand(a), migrateCommand(a),
		versionCommand(a), optionsCommand(a, root), completionCommand(a, root),
	)
	hideGlobalFlags(root)
	return root
}

// hideGlobalFlags keeps the help of a verb to its own flags; `etcdctl options` lists the global ones.
func hideGlobalFlags(root *cobra.Command) {
	root.InitDefaultHelpFlag()
	root.Flags().Lookup("help").Hidden = true
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		help(cmd, args)
		fmt.Fprintln(cmd.OutOrStdout(), `Use "etcdctl options" for a list of global command-line options (applies to all commands).`)
	})
}

// complete completes a flag with the words it takes.
func complete(cmd *cobra.Command, flag string, words ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveDefault))
	if err != nil {
		panic(err) // cmd has no such flag
	}
}
