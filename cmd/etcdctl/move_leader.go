package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/cmd/etcdctl/output"
)

const moveLeaderHelp = `Hands leadership to another voter. The leader must be among --endpoints.`

func moveLeaderCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "move-leader <transferee-member-id>",
		Short:   "Hands leadership to another member",
		Long:    moveLeaderHelp,
		GroupID: groupCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fail(statusBadArgs, "move-leader command needs 1 argument")
			}
			target, err := strconv.ParseUint(args[0], 16, 64)
			if err != nil {
				return fail(statusBadArgs, "%w", err)
			}
			return moveLeader(a, cmd, target)
		},
	}
}

// moveLeader asks the endpoints in order who leads, and has the one that says it does hand over. One that does not answer
// is an error only if no other leads.
func moveLeader(a *app, cmd *cobra.Command, target uint64) error {
	p, err := a.prepare(cmd, (*output.Moved)(nil))
	if err != nil {
		return err
	}
	e := &endpoints{app: a}
	var moved *output.Moved
	var silent error
	for _, ep := range a.set.endpoints {
		leads := false
		err := e.one(ep, func(ctx context.Context, c *clientv3.Client) error {
			s, err := c.Status(ctx, ep)
			if err != nil {
				return err
			}
			if leads = s.Header.GetMemberId() == s.Leader; !leads {
				return nil
			}
			r, err := c.MoveLeader(ctx, target)
			moved = &output.Moved{From: s.Leader, To: target, MoveLeaderResponse: r}
			return err
		})
		switch {
		case leads && err != nil:
			return a.explain(statusError, err)
		case leads:
			return printed(p.Print(moved))
		case err != nil && silent == nil:
			silent = a.explain(statusError, err)
		}
	}
	if silent != nil {
		return silent
	}
	return fail(statusBadArgs, "no leader endpoint given at %v", a.set.endpoints)
}
