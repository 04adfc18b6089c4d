package v2ctl

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"

	client "go.etcd.io/etcd/client/v2"
)

// commandsMax bounds the commands that run at a time: each change starts one, and none is waited for. Further changes
// wait in the member's history, which keeps 1,000.
const commandsMax = 512

func execWatchVerb() verb {
	var (
		recursive bool
		after     int
	)
	return verb{
		name: "exec-watch", args: "<key> <command> [args...]", short: "runs a command for each change of a key",
		long: "The command finds the change in ETCD_WATCH_ACTION, ETCD_WATCH_KEY, ETCD_WATCH_VALUE and ETCD_WATCH_MODIFIED_INDEX.\n" +
			"Flags of its own are written behind --: exec-watch --recursive /dir -- sh -c 'echo $ETCD_WATCH_KEY'",
		flags: func(f *flags) {
			f.number(&after, "after-index", "index", "the first change behind this index, also if it is past (0: from now on)")
			f.boolean(&recursive, "recursive, r", "changes of all keys below too")
		},
		run: func(c *call) error {
			api, err := c.dialKeys()
			if err != nil {
				return err
			}
			key, command, err := c.keyAndCommand()
			if err != nil {
				return err
			}
			w := api.Watcher(key, &client.WatcherOptions{AfterIndex: uint64(after), Recursive: recursive})
			running := make(chan struct{}, commandsMax)
			return c.follow(w, func(ctx context.Context, r *client.Response) (more bool, err error) {
				return true, c.start(ctx, command, r, running)
			})
		},
	}
}

// keyAndCommand takes the arguments apart. With a "--" the key comes before it; without one, or with nothing but flags
// before it, the key is the last word, as in 3.4.23. (Debian's build loses a "--" that no flag stands before, and takes
// the key for the command.)
func (c *call) keyAndCommand() (key string, command []string, err error) {
	n := len(c.args)
	if n < 2 {
		return "", nil, badArgs("key and command to exec required")
	}
	if i := slices.Index(c.words, "--"); i >= 0 && i+1 < len(c.words) {
		command = c.words[i+1:]
		if n > len(command) {
			return c.args[0], command, nil
		}
	}
	return c.args[n-1], c.args[:n-1], nil
}

// start runs the command for one change. Its end is waited for by nobody but the bound: Ctrl-C ends etcdctl at once, and
// the commands as the terminal sees fit.
func (c *call) start(ctx context.Context, command []string, r *client.Response, running chan struct{}) error {
	if r.Node.Dir {
		fmt.Fprintf(c.Diag, "Ignored dir %s change\n", r.Node.Key)
		return nil
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(slices.Clone(c.Env),
		"ETCD_WATCH_ACTION="+r.Action,
		"ETCD_WATCH_MODIFIED_INDEX="+strconv.FormatUint(r.Node.ModifiedIndex, 10),
		"ETCD_WATCH_KEY="+r.Node.Key,
		"ETCD_WATCH_VALUE="+r.Node.Value,
	)
	cmd.Stdout, cmd.Stderr = c.Out, c.Diag
	select {
	case running <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	if err := cmd.Start(); err != nil {
		return &failure{status: statusError, text: err.Error(), err: err}
	}
	go func() {
		_ = cmd.Wait() // how it ended is its own affair
		<-running
	}()
	return nil
}
