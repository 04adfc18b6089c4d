package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"keelson/internal/kit/progress"
	"keelson/internal/offline"
	"keelson/internal/state/v2tree"
)

const migrateHelp = `Makes v3 keys of the v2 keys in a data directory, while no member runs on it: of those that Keelson keeps
(--enable-v2), and of those of etcd up to 3.5. The path /a/b becomes the key /a/b, TTLs become leases, directories go. What
v3 holds stays: where it has a key of that name with another value, the v2 key is passed over, and named.

  etcdctl migrate --data-dir m1.etcd

Copy the directory first: the way back is the copy. Stop all members of a cluster when nobody writes, and migrate the
directory of each: all must tell the same numbers of keys and leases and the same revision, else they differ for ever.
Afterwards any member starts on the directory, an etcd too. One more run changes nothing.

A transformer makes other keys of the nodes. It is a program that reads them from its standard input as JSON, as the v2 API
shows them, one after another, and writes keys to its standard output: for each 8 bytes, little-endian, the length, and an
encoded mvccpb.KeyValue.`

// keptShown is how many keys that v3 had already are named.
const keptShown = 20

func migrateCommand(a *app) *cobra.Command {
	var (
		m      offline.FromV2
		prefix string
	)
	cmd := &cobra.Command{
		Use:     "migrate",
		Short:   "Makes v3 keys of the v2 keys in a data directory",
		Long:    migrateHelp,
		GroupID: groupKeys,
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				return fail(statusBadArgs, "migrate takes no arguments, but %q was given", args[0])
			case m.DataDir == "":
				return fail(statusBadArgs, "migrate needs --data-dir, the data directory of a member that does not run")
			}
			m.Prefix, m.Stderr, m.Progress = v2tree.At(prefix), a.diag, progress.OnTerminal(a.diag)
			return runMigrate(a, m)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&m.DataDir, "data-dir", "", "data directory of a member that does not run")
	fs.StringVar(&m.WALDir, "wal-dir", "", "where its log is (empty: member/wal in the data directory)")
	fs.StringVar(&m.Transformer, "transformer", "", "program that makes keys of the nodes (empty: each file is a key)")
	fs.BoolVar(&m.NoTTL, "no-ttl", false, "leave out keys with a TTL of their own")
	fs.StringVar(&prefix, "v2-prefix", v2tree.DefaultPrefix, "where Keelson keeps v2 keys, as its flag of that name says")
	for _, dir := range []string{"data-dir", "wal-dir"} {
		if err := cmd.MarkFlagDirname(dir); err != nil {
			panic(err) // cmd has no such flag
		}
	}
	return cmd
}

// runMigrate does it and tells what was done, in the lines of 3.4's migrate and some of our own.
func runMigrate(a *app, m offline.FromV2) error {
	if m.Transformer == "" {
		fmt.Fprintln(a.out, "using default transformer")
	}
	done, err := m.Run()
	if err != nil {
		return &exitError{status: statusError, err: err, hint: migrateHint(err)}
	}
	if n := len(done.Kept); n > 0 {
		shown := done.Kept[:min(n, keptShown)]
		fmt.Fprintf(a.diag, "warning: %d keys were passed over, v3 has them with other values: %s", n, strings.Join(shown, " "))
		if n > len(shown) {
			fmt.Fprintf(a.diag, " and %d more", n-len(shown))
		}
		fmt.Fprintln(a.diag)
	}
	if done.Auth {
		fmt.Fprintln(a.diag, "warning: users and roles of v2 are not those of v3: make these with etcdctl user and etcdctl role")
	}
	if done.Keys == 0 {
		fmt.Fprintln(a.out, "no v2 keys to migrate")
		return nil
	}
	fmt.Fprintf(a.out, "finished transforming keys: %d keys, %d leases for them; entry %d of the log, revision %d\n",
		done.Keys, done.Leases, done.Index, done.Revision)
	return nil
}

func migrateHint(err error) string {
	switch {
	case errors.Is(err, offline.ErrUncommitted):
		return "what one member has and another has not may be undone when they start; nothing was written"
	case errors.Is(err, offline.ErrBehind):
		return "nothing was written"
	}
	return ""
}
