package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const delHelp = `Deletes the key and prints how many keys went.

  etcdctl del foo                    one key
  etcdctl del foo --prefix           every key that begins with foo
  etcdctl del a c --range            every key from a up to, but without, c

Without --range a range waits two seconds first, so that Ctrl-C can still stop it.`

// What Ctrl-C has to stop a delete of a range whose end looks like a second key.
const delRangePause = 2 * time.Second

type delFlags struct {
	prefix, prevKV, fromKey, span bool
}

func (f *delFlags) bind(fs *pflag.FlagSet) {
	fs.BoolVar(&f.prefix, "prefix", false, "every key that begins with <key>")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "print also the deleted keys and values")
	fs.BoolVar(&f.fromKey, "from-key", false, "every key that is not before <key> in byte order")
	fs.BoolVar(&f.span, "range", false, "delete [key, range_end) without the pause")
}

func delCommand(a *app) *cobra.Command {
	f := &delFlags{}
	cmd := &cobra.Command{
		Use:     "del [options] <key> [range_end]",
		Short:   "Deletes a key or a range of keys",
		Long:    delHelp,
		GroupID: groupKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, opts, err := f.request(a, args)
			if err != nil {
				return err
			}
			return a.ask(cmd, statusError, (*clientv3.DeleteResponse)(nil), func(ctx context.Context, c *call) (any, error) {
				return c.Delete(ctx, key, opts...)
			})
		},
	}
	f.bind(cmd.Flags())
	return cmd
}

// request reads the arguments, and pauses before a range that was not asked for by --range.
func (f *delFlags) request(a *app, args []string) (key string, opts []clientv3.OpOption, err error) {
	if len(args) == 0 || len(args) > 2 {
		return "", nil, fail(statusBadArgs, "del command needs one argument as key and an optional argument as range_end")
	}
	if f.prefix && f.fromKey {
		return "", nil, errPrefixAndFromKey()
	}
	key, opts, err = keyRange(args, f.prefix, f.fromKey)
	if err != nil {
		return "", nil, err
	}
	if len(args) == 2 && !f.span {
		fmt.Fprintf(a.diag, "Warning: Keys between %q and %q will be deleted. Please interrupt the command within next 2 seconds to cancel. "+
			"You can provide `--range` flag to avoid the delay.\n", args[0], args[1])
		a.wait(delRangePause)
	}
	if f.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	return key, opts, nil
}
