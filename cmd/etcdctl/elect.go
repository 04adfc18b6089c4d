package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const electHelp = `Stands for an election: waits until it is elected, prints the key that stands for it and the proposal, and leads until
Ctrl-C. With -l it only prints every leader, the one of now first.

  etcdctl elect primary host-7
  etcdctl elect primary -l`

var errObserverLost = errors.New("elect: observer lost")

func electCommand(a *app) *cobra.Command {
	listen := false
	cmd := &cobra.Command{
		Use:     "elect <election-name> [proposal]",
		Short:   "Stands for an election, or follows one",
		Long:    electHelp,
		GroupID: groupConcurrency,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1 && len(args) != 2:
				return fail(statusBadArgs, "elect takes one election name argument and an optional proposal argument")
			case len(args) == 1 && !listen:
				return fail(statusBadArgs, "no proposal argument but -l not set")
			case len(args) == 2 && listen:
				return fail(statusBadArgs, "proposal given but -l is set")
			}
			c, err := a.dial(cmd, (*clientv3.GetResponse)(nil))
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			if listen {
				err = c.observe(args[0])
			} else {
				err = c.campaign(args[0], args[1])
			}
			var own *exitError
			if err == nil || errors.As(err, &own) {
				return err
			}
			return a.explain(statusError, err)
		},
	}
	cmd.Flags().BoolVarP(&listen, "listen", "l", false, "only print who leads")
	return cmd
}

// observe prints every leader until a signal.
func (c *call) observe(name string) error {
	s, err := concurrency.NewSession(c.Client)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	ctx, stop := untilSignal()
	defer stop()
	for r := range concurrency.NewElection(s, name).Observe(ctx) {
		if err := c.Print(r); err != nil {
			return printed(err)
		}
	}
	if notified(ctx) == nil {
		return errObserverLost
	}
	return nil
}

// campaign leads from the election until a signal, and resigns.
func (c *call) campaign(name, proposal string) error {
	s, err := concurrency.NewSession(c.Client)
	if err != nil {
		return err
	}
	defer closeQuietly(s)
	e := concurrency.NewElection(s, name)
	ctx, stop := untilSignal()
	defer stop()
	if err := e.Campaign(ctx, proposal); err != nil {
		return err
	}
	r, err := c.Get(ctx, e.Key())
	if err != nil {
		return err
	}
	if err := c.Print(r); err != nil {
		return printed(err)
	}
	select {
	case <-ctx.Done():
		return e.Resign(context.Background())
	case <-s.Done():
		return errElectionEnded
	}
}
