package main

import (
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const leaseKeepAliveHelp = `Renews a lease again and again, until Ctrl-C or until the lease has ended, and prints a line each time.`

func leaseKeepAliveCommand(a *app) *cobra.Command {
	once := false
	cmd := &cobra.Command{
		Use:   "keep-alive [options] <leaseID>",
		Short: "Renews a lease until it is told to stop",
		Long:  leaseKeepAliveHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "lease keep-alive command needs lease ID as argument")
			}
			id, err := leaseID(args[0])
			if err != nil {
				return err
			}
			c, err := a.dial(cmd, nil)
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			if once {
				return c.keepAliveOnce(id)
			}
			return c.keepAlive(id)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "renew one time only")
	return cmd
}

func (c *call) keepAliveOnce(id clientv3.LeaseID) error {
	ctx, cancel := c.app.timed()
	defer cancel()
	r, err := c.KeepAliveOnce(ctx, id)
	if err != nil {
		return c.app.explain(statusBadConnection, err)
	}
	return printed(c.Print(r))
}

func (c *call) keepAlive(id clientv3.LeaseID) error {
	ctx, stop := untilSignal()
	defer stop()
	answers, err := c.KeepAlive(ctx, id)
	if err != nil {
		return c.app.explain(statusBadConnection, err)
	}
	for r := range answers {
		if err := c.Print(r); err != nil {
			return printed(err)
		}
	}
	if err := notified(ctx); err != nil {
		return err
	}
	if c.app.set.format != "simple" {
		return nil
	}
	return printed(c.Line(fmt.Sprintf("lease %016x expired or revoked.", id)))
}
