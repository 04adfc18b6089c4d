package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal gives a context that ends at SIGINT or SIGTERM, with a signalError as its cause. Only verbs that wait on
// the cluster use it: a read of stdin would not notice, so elsewhere a signal ends the program at once.
// stop gives the signals back their usual effect.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-c:
			signal.Stop(c) // a second Ctrl-C ends the program even where the cluster does not answer
			cancel(caught(s))
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		cancel(nil)
	}
}
