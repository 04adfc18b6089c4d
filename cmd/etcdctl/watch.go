package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const watchHelp = `Prints every change of a key or a range as it happens, until Ctrl-C: PUT or DELETE, the key, the value.

  etcdctl watch foo                       one key
  etcdctl watch foo --prefix              every key that begins with foo
  etcdctl watch foo --rev=100             from revision 100 on, then what is new
  etcdctl watch foo -- sh -c 'echo $ETCD_WATCH_KEY'

The command after "--" runs once for each event, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and
ETCD_WATCH_VALUE in its environment, the last three quoted; when it fails the watch ends. Key and range_end may come
from ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END in place of arguments.

With -i the watches come from stdin, any number of them: lines such as "watch foo --prefix"; the line "progress" asks
the server how far they are.`

func watchCommand(a *app) *cobra.Command {
	f := &watchFlags{}
	interactive := false
	cmd := &cobra.Command{
		Use:     "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
		Short:   "Prints changes of keys as they happen",
		Long:    watchHelp,
		GroupID: groupKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := a.watchEnv()
			if err != nil {
				return err
			}
			r := env
			if !interactive {
				if r, err = watchArgs(args, cmd.ArgsLenAtDash(), env); err != nil {
					return err
				}
			}
			c, err := a.dial(cmd, (*clientv3.WatchResponse)(nil))
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			ctx, stop := untilSignal()
			defer stop()
			if interactive {
				return c.watchInteractive(ctx, env)
			}
			return c.watchOne(ctx, f, r)
		},
	}
	f.bind(cmd.Flags())
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "read watches from stdin")
	return cmd
}

// watchOne prints one watch until a signal, or until the server ends it.
func (c *call) watchOne(ctx context.Context, f *watchFlags, r watchRequest) error {
	events, err := f.start(ctx, c, r)
	if err != nil {
		return err
	}
	if err := c.follow(ctx, events, r.exec); err != nil {
		return err
	}
	if err := notified(ctx); err != nil {
		return err
	}
	return fail(statusInterrupted, "watch is canceled by the server")
}

// start opens the watch. The context asks for a leader: a member that has lost the others ends the watch rather than
// staying silent.
func (f *watchFlags) start(ctx context.Context, c *call, r watchRequest) (clientv3.WatchChan, error) {
	if r.ranged && f.prefix {
		return nil, fail(statusBadArgs, "`range_end` and `--prefix` are mutually exclusive")
	}
	return c.Watch(clientv3.WithRequireLeader(ctx), r.key, f.options(r)...), nil
}

// follow prints events and runs the command for each, until the watch ends.
func (c *call) follow(ctx context.Context, events clientv3.WatchChan, command []string) error {
	for r := range events {
		if stopped(ctx) {
			return nil
		}
		if r.Canceled {
			fmt.Fprintf(c.app.diag, "watch was canceled (%v)\n", r.Err())
		}
		if r.IsProgressNotify() {
			if err := c.Line(fmt.Sprintf("progress notify: %d", r.Header.GetRevision())); err != nil {
				return printed(err)
			}
		}
		if err := c.Print(&r); err != nil {
			return printed(err)
		}
		for _, e := range r.Events {
			if len(command) == 0 {
				break
			}
			if err := c.app.runForEvent(ctx, command, r.Header.GetRevision(), e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) runForEvent(ctx context.Context, command []string, rev int64, e *clientv3.Event) error {
	run := exec.CommandContext(ctx, command[0], command[1:]...)
	run.Env = append(append([]string{}, a.env...),
		fmt.Sprintf("ETCD_WATCH_REVISION=%d", rev),
		fmt.Sprintf("ETCD_WATCH_EVENT_TYPE=%q", e.GetType()),
		fmt.Sprintf("ETCD_WATCH_KEY=%q", e.GetKv().GetKey()),
		fmt.Sprintf("ETCD_WATCH_VALUE=%q", e.GetKv().GetValue()),
	)
	run.Stdout, run.Stderr = a.out, a.diag
	err := run.Run()
	if err != nil && !stopped(ctx) { // the end of the watch kills the command
		fmt.Fprintf(a.diag, "command %q error (%v)\n", command, err)
		return &exitError{status: statusError}
	}
	return nil
}

// watchInteractive starts the watches that lines of stdin ask for, all on one client, until stdin ends.
func (c *call) watchInteractive(ctx context.Context, env watchRequest) error {
	lines := make(chan string)
	ended := make(chan error, 1) // the first watch or the end of stdin that ends the program
	end := func(err error) {
		select {
		case ended <- err:
		default:
		}
	}
	go readLines(ctx, c.app.in, lines, end)
	for {
		select {
		case line := <-lines:
			events, command, err := c.interactiveLine(ctx, line, env)
			if err != nil {
				return err
			}
			if events == nil {
				continue
			}
			go func() {
				if err := c.follow(ctx, events, command); err != nil {
					end(err)
				}
			}()
		case err := <-ended:
			return err
		case <-ctx.Done():
			return notified(ctx)
		}
	}
}

func readLines(ctx context.Context, in io.Reader, lines chan<- string, end func(error)) {
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			end(fail(statusInvalidInput, "error reading watch request line: %w", err))
			return
		}
		select {
		case lines <- strings.TrimSuffix(line, "\n"):
		case <-ctx.Done():
			return
		}
	}
}

// interactiveLine does what one line says. A line that cannot be understood is told and passed over; wrong arguments
// of a watch end the program, as they do in etcdctl.
func (c *call) interactiveLine(ctx context.Context, line string, env watchRequest) (clientv3.WatchChan, []string, error) {
	words, err := splitWords(line)
	switch {
	case err != nil:
		return nil, nil, fail(statusInvalidInput, "%w", err)
	case len(words) == 0:
		fmt.Fprintf(c.app.diag, "Invalid command: %s (watch and progress supported)\n", line)
		return nil, nil, nil
	case words[0] == "progress":
		if err := c.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil {
			return nil, nil, c.app.explain(statusError, err)
		}
		return nil, nil, nil
	case words[0] != "watch":
		fmt.Fprintf(c.app.diag, "Invalid command %s (only support watch)\n", line)
		return nil, nil, nil
	case len(words) < 2 && env.key == "":
		fmt.Fprintf(c.app.diag, "Invalid command %s (command type or key is not provided)\n", line)
		return nil, nil, nil
	}
	f, r, err := watchLine(words[1:], env)
	if err != nil {
		return nil, nil, err
	}
	events, err := f.start(ctx, c, r)
	var e *exitError
	if errors.As(err, &e) {
		fmt.Fprintf(c.app.diag, "Invalid command %s (%v)\n", line, err)
		return nil, nil, nil
	}
	return events, r.exec, err
}
