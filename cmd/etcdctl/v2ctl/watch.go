package v2ctl

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	client "go.etcd.io/etcd/client/v2"
)

func watchVerb() verb {
	var (
		recursive, forever bool
		after              int
	)
	return verb{
		name: "watch", args: "<key>", short: "waits for a change of a key and prints it",
		flags: func(f *flags) {
			f.boolean(&forever, "forever, f", "go on until Ctrl-C")
			f.number(&after, "after-index", "index", "the first change behind this index, also if it is past (0: from now on)")
			f.boolean(&recursive, "recursive, r", "changes of all keys below too")
		},
		run: func(c *call) error {
			api, err := c.dialKeys()
			if err != nil {
				return err
			}
			key, err := c.keyArg()
			if err != nil {
				return err
			}
			w := api.Watcher(key, &client.WatcherOptions{AfterIndex: uint64(after), Recursive: recursive})
			return c.follow(w, func(_ context.Context, r *client.Response) (more bool, err error) {
				if r.Node.Dir {
					return true, nil
				}
				if recursive {
					fmt.Fprintf(c.Out, "[%s] %s\n", r.Action, r.Node.Key)
				}
				return forever, c.print(r)
			})
		},
	}
}

// follow takes changes until take wants no more, or Ctrl-C, which is a good end.
func (c *call) follow(w client.Watcher, take func(context.Context, *client.Response) (more bool, err error)) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for {
		r, err := w.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return asked(err)
		}
		if more, err := take(ctx, r); err != nil || !more {
			return err
		}
	}
}
