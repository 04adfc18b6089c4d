package main

import (
	"errors"
	"io"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	// errArgs is returned when a watch names no key.
	errArgs = errors.New("bad number of arguments")
	// errArgsEnv is returned when a key is given both by argument and by ETCDCTL_WATCH_KEY.
	errArgsEnv = errors.New("bad number of arguments (found conflicting environment key)")
	// errArgsSeparator is returned when nothing follows "--".
	errArgsSeparator = errors.New("bad number of arguments (found separator --, but no commands)")
)

type watchFlags struct {
	prefix, prevKV, progress bool
	rev                      int64
}

func (f *watchFlags) bind(fs *pflag.FlagSet) {
	fs.BoolVar(&f.prefix, "prefix", false, "every key that begins with the given one")
	fs.Int64Var(&f.rev, "rev", 0, "begin with the events of this revision (0: with what comes next)")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "print also the key and value from before each event")
	fs.BoolVar(&f.progress, "progress-notify", false, "print the revision now and then while nothing happens")
}

// watchRequest is what to watch, and the command to run for each event.
type watchRequest struct {
	key, end string
	ranged   bool     // end was given
	exec     []string // none: only print
}

// watchEnv reads the key and the range of the environment; key "" where there is none.
func (a *app) watchEnv() (watchRequest, error) {
	r := watchRequest{key: a.getenv("ETCDCTL_WATCH_KEY"), end: a.getenv("ETCDCTL_WATCH_RANGE_END")}
	r.ranged = r.end != ""
	if r.key == "" && r.ranged {
		return r, fail(statusBadArgs, "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=%q", r.end)
	}
	return r, nil
}

// watchArgs gives the request of args, of which those from dash on stood behind "--" (dash < 0: there was none).
func watchArgs(args []string, dash int, env watchRequest) (watchRequest, error) {
	var command []string
	if dash >= 0 {
		if dash == len(args) {
			return watchRequest{}, fail(statusBadArgs, "%w", errArgsSeparator)
		}
		args, command = args[:dash], args[dash:]
	}
	if env.key != "" {
		if len(args) > 0 {
			return watchRequest{}, fail(statusBadArgs, "%w", errArgsEnv)
		}
		env.exec = command
		return env, nil
	}
	if len(args) == 0 {
		return watchRequest{}, fail(statusBadArgs, "%w", errArgs)
	}
	r := watchRequest{key: args[0], exec: command}
	if len(args) == 2 { // like etcdctl, which passes over a range where more arguments follow
		r.end, r.ranged = args[1], true
	}
	return r, nil
}

// watchLine gives flags and request of a line of the interactive mode, without its first word.
func watchLine(words []string, env watchRequest) (*watchFlags, watchRequest, error) {
	fs := pflag.NewFlagSet("watch", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f := &watchFlags{}
	f.bind(fs)
	if err := fs.Parse(words); err != nil {
		return nil, watchRequest{}, fail(statusBadArgs, "%w", err)
	}
	r, err := watchArgs(fs.Args(), fs.ArgsLenAtDash(), env)
	return f, r, err
}

func (f *watchFlags) options(r watchRequest) []clientv3.OpOption {
	opts := []clientv3.OpOption{clientv3.WithRev(f.rev)}
	if r.ranged {
		opts = append(opts, clientv3.WithRange(r.end))
	}
	if f.prefix {
		opts = append(opts, clientv3.WithPrefix())
	}
	if f.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	if f.progress {
		opts = append(opts, clientv3.WithProgressNotify())
	}
	return opts
}
