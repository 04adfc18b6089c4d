package main

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const putHelp = `Stores <value> under <key> and prints OK.

A <value> that is not given is read from stdin, to its end:

  etcdctl put config < config.yaml

A key or value that begins with '-' would be taken for a flag; put "--" before it:

  etcdctl put key -- -5

With --lease the key goes when the lease ends. A put without --lease takes the key off its lease, unless
--ignore-lease is given.`

type putFlags struct {
	lease                            string // hexadecimal
	prevKV, ignoreValue, ignoreLease bool
}

func (f *putFlags) bind(fs *pflag.FlagSet) {
	fs.StringVar(&f.lease, "lease", "0", "attach the key to this lease (ID in hexadecimal)")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "print also the key and value from before")
	fs.BoolVar(&f.ignoreValue, "ignore-value", false, "keep the key's value: takes no <value>")
	fs.BoolVar(&f.ignoreLease, "ignore-lease", false, "keep the key's lease")
}

func putCommand(a *app) *cobra.Command {
	f := &putFlags{}
	cmd := &cobra.Command{
		Use:     "put [options] <key> <value> (<value> can also be given from stdin)",
		Short:   "Stores a value under a key",
		Long:    putHelp,
		GroupID: groupKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, value, opts, err := f.request(args, a.in)
			if err != nil {
				return err
			}
			return a.ask(cmd, statusError, (*clientv3.PutResponse)(nil), func(ctx context.Context, c *call) (any, error) {
				return c.Put(ctx, key, value, opts...)
			})
		},
	}
	f.bind(cmd.Flags())
	return cmd
}

// request reads the arguments, and the value from stdin where there is none.
func (f *putFlags) request(args []string, stdin io.Reader) (key, value string, opts []clientv3.OpOption, err error) {
	if len(args) == 0 {
		return "", "", nil, errPutArgs()
	}
	if f.ignoreValue && len(args) > 1 {
		return "", "", nil, fail(statusBadArgs, "put command needs only 1 argument when 'ignore-value' is set")
	}
	if !f.ignoreValue {
		if value, err = argOrStdin(args, stdin); err != nil {
			return "", "", nil, errPutArgs()
		}
	}
	id, err := strconv.ParseInt(f.lease, 16, 64)
	if err != nil {
		return "", "", nil, fail(statusBadArgs, "bad lease ID (%w), expecting ID in Hex", err)
	}
	if id != 0 {
		opts = append(opts, clientv3.WithLease(clientv3.LeaseID(id)))
	}
	if f.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	if f.ignoreValue {
		opts = append(opts, clientv3.WithIgnoreValue())
	}
	if f.ignoreLease {
		opts = append(opts, clientv3.WithIgnoreLease())
	}
	return args[0], value, opts, nil
}

func errPutArgs() error {
	return fail(statusBadArgs, "put command needs 1 argument and input from stdin or 2 arguments")
}

var errNoValue = errors.New("no value given and nothing on stdin")

// argOrStdin gives the second argument, else all of stdin, which must not be empty.
func argOrStdin(args []string, stdin io.Reader) (string, error) {
	if len(args) > 1 {
		return args[1], nil
	}
	b, err := io.ReadAll(stdin)
	if err == nil && len(b) == 0 {
		err = errNoValue
	}
	return string(b), err
}
