package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const getHelp = `Prints the key and its value, each on a line; nothing where there is no such key.

  etcdctl get foo                    one key
  etcdctl get foo --prefix           every key that begins with foo
  etcdctl get a c                    every key from a up to, but without, c
  etcdctl get foo --rev=100          as it was at revision 100, unless that is compacted
  etcdctl get "" --prefix --keys-only --limit=10

A read is linearizable: it sees every write that was answered before. --consistency=s asks only the member that
answers, which may be behind but needs no leader.`

type getFlags struct {
	consistency, order, sortBy           string
	limit, rev                           int64
	prefix, fromKey, keysOnly, countOnly bool
	valueOnly, stream                    bool
	minCreate, maxCreate, minMod, maxMod int64
}

func (f *getFlags) bind(fs *pflag.FlagSet) {
	fs.StringVar(&f.consistency, "consistency", "l", "l: linearizable; s: serializable, from one member alone")
	fs.StringVar(&f.order, "order", "", "ASCEND or DESCEND (ASCEND where only --sort-by is given)")
	fs.StringVar(&f.sortBy, "sort-by", "", "CREATE, KEY, MODIFY, VALUE or VERSION")
	fs.Int64Var(&f.limit, "limit", 0, "print at most so many keys (0: all)")
	fs.BoolVar(&f.prefix, "prefix", false, "every key that begins with <key>")
	fs.BoolVar(&f.fromKey, "from-key", false, "every key that is not before <key> in byte order")
	fs.Int64Var(&f.rev, "rev", 0, "read at this revision (0: now)")
	fs.BoolVar(&f.keysOnly, "keys-only", false, "fetch the keys without values")
	fs.BoolVar(&f.countOnly, "count-only", false, "fetch only the number of keys (with -w fields)")
	fs.BoolVar(&f.valueOnly, "print-value-only", false, "print the values without keys (with -w simple)")
	fs.Int64Var(&f.minCreate, "min-create-rev", 0, "only keys created at this revision or later")
	fs.Int64Var(&f.maxCreate, "max-create-rev", 0, "only keys created at this revision or earlier")
	fs.Int64Var(&f.minMod, "min-mod-rev", 0, "only keys last changed at this revision or later")
	fs.Int64Var(&f.maxMod, "max-mod-rev", 0, "only keys last changed at this revision or earlier")
	fs.BoolVar(&f.stream, "stream", false, "fetch by the RangeStream call, in pieces")
}

func getCommand(a *app) *cobra.Command {
	f := &getFlags{}
	cmd := &cobra.Command{
		Use:     "get [options] <key> [range_end]",
		Short:   "Prints a key or a range of keys",
		Long:    getHelp,
		GroupID: groupKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, opts, err := f.request(args)
			if err != nil {
				return err
			}
			c, err := a.dialWith(cmd, nil, output.Options{ValueOnly: f.valueOnly})
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			if err := f.checkFormat(a.set.format); err != nil {
				return err
			}
			ctx, cancel := a.timed()
			defer cancel()
			r, err := f.fetch(ctx, c.Client, key, opts)
			if err != nil {
				return a.explain(statusError, err)
			}
			return printed(c.Print(r))
		},
	}
	f.bind(cmd.Flags())
	complete(cmd, "consistency", "l", "s")
	complete(cmd, "order", "ASCEND", "DESCEND")
	complete(cmd, "sort-by", "CREATE", "KEY", "MODIFY", "VALUE", "VERSION")
	return cmd
}

func (f *getFlags) fetch(ctx context.Context, c *clientv3.Client, key string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	if !f.stream {
		return c.Get(ctx, key, opts...)
	}
	pieces, err := c.GetStream(ctx, key, opts...)
	if err != nil {
		return nil, err
	}
	return clientv3.GetStreamToGetResponse(pieces)
}

func (f *getFlags) checkFormat(format string) error {
	if f.countOnly && format != "fields" {
		return fail(statusBadArgs, "--count-only is only for `--write-out=fields`")
	}
	if f.valueOnly && format != "simple" {
		return fail(statusBadArgs, "print-value-only is only for `--write-out=simple`")
	}
	return nil
}

// request turns arguments and flags into the client's; the checks, their order and their texts are etcd's.
func (f *getFlags) request(args []string) (key string, opts []clientv3.OpOption, err error) {
	switch {
	case len(args) == 0:
		return "", nil, fail(statusBadArgs, "get command needs one argument as key and an optional argument as range_end")
	case f.prefix && f.fromKey:
		return "", nil, errPrefixAndFromKey()
	case f.keysOnly && f.countOnly:
		return "", nil, fail(statusBadArgs, "`--keys-only` and `--count-only` cannot be set at the same time, choose one")
	}
	serializable, err := isSerializable(f.consistency)
	if err != nil {
		return "", nil, err
	}
	if serializable {
		opts = append(opts, clientv3.WithSerializable())
	}
	key, span, err := keyRange(args, f.prefix, f.fromKey)
	if err != nil {
		return "", nil, err
	}
	sort, err := f.sort()
	if err != nil {
		return "", nil, err
	}
	bounds, err := f.bounds()
	if err != nil {
		return "", nil, err
	}
	opts = append(append(append(opts, sort, clientv3.WithLimit(f.limit)), span...), bounds...)
	if f.rev > 0 {
		opts = append(opts, clientv3.WithRev(f.rev))
	}
	if f.keysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	if f.countOnly {
		opts = append(opts, clientv3.WithCountOnly())
	}
	return key, opts, nil
}

func (f *getFlags) sort() (clientv3.OpOption, error) {
	orders := map[string]clientv3.SortOrder{
		"":        clientv3.SortNone,
		"ASCEND":  clientv3.SortAscend,
		"DESCEND": clientv3.SortDescend,
	}
	targets := map[string]clientv3.SortTarget{
		"":        clientv3.SortByKey,
		"CREATE":  clientv3.SortByCreateRevision,
		"KEY":     clientv3.SortByKey,
		"MODIFY":  clientv3.SortByModRevision,
		"VALUE":   clientv3.SortByValue,
		"VERSION": clientv3.SortByVersion,
	}
	order, ok := orders[strings.ToUpper(f.order)]
	if !ok {
		return nil, fail(statusBadFeature, "bad sort order %v", f.order)
	}
	target, ok := targets[strings.ToUpper(f.sortBy)]
	if !ok {
		return nil, fail(statusBadFeature, "bad sort target %v", f.sortBy)
	}
	return clientv3.WithSort(target, order), nil
}

func (f *getFlags) bounds() (opts []clientv3.OpOption, err error) {
	if f.maxCreate > 0 && f.minCreate > f.maxCreate {
		return nil, fail(statusBadFeature, "getMinCreateRev(=%v) > getMaxCreateRev(=%v)", f.minCreate, f.maxCreate)
	}
	if f.maxMod > 0 && f.minMod > f.maxMod {
		return nil, fail(statusBadFeature, "getMinModRev(=%v) > getMaxModRev(=%v)", f.minMod, f.maxMod)
	}
	for _, b := range []struct {
		rev  int64
		with func(int64) clientv3.OpOption
	}{
		{f.minCreate, clientv3.WithMinCreateRev},
		{f.maxCreate, clientv3.WithMaxCreateRev},
		{f.minMod, clientv3.WithMinModRev},
		{f.maxMod, clientv3.WithMaxModRev},
	} {
		if b.rev > 0 {
			opts = append(opts, b.with(b.rev))
		}
	}
	return opts, nil
}

func isSerializable(consistency string) (bool, error) {
	switch consistency {
	case "s":
		return true, nil
	case "l":
		return false, nil
	}
	return false, fail(statusBadFeature, "unknown consistency flag %q", consistency)
}

func errPrefixAndFromKey() error {
	return fail(statusBadArgs, "`--prefix` and `--from-key` cannot be set at the same time, choose one")
}

// keyRange gives key and range of get and del. An empty key with --prefix or --from-key means every key.
func keyRange(args []string, prefix, fromKey bool) (key string, opts []clientv3.OpOption, err error) {
	key = args[0]
	if len(args) > 1 {
		if prefix || fromKey {
			return "", nil, fail(statusBadArgs, "too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
		}
		return key, []clientv3.OpOption{clientv3.WithRange(args[1])}, nil
	}
	switch {
	case key == "" && (prefix || fromKey):
		return "\x00", []clientv3.OpOption{clientv3.WithFromKey()}, nil
	case prefix:
		return key, []clientv3.OpOption{clientv3.WithPrefix()}, nil
	case fromKey:
		return key, []clientv3.OpOption{clientv3.WithFromKey()}, nil
	}
	return key, nil, nil
}
