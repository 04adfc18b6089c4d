package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const endpointHelp = `Asks every endpoint by itself, one connection each, so that the answer says which member is ill.`

func endpointCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "endpoint <subcommand>",
		Short:   "Shows health and state of each member",
		Long:    endpointHelp,
		GroupID: groupCluster,
	}
	e := &endpoints{app: a}
	cmd.PersistentFlags().BoolVar(&e.cluster, "cluster", false, "ask all members of the cluster, not only --endpoints")
	cmd.AddCommand(endpointHealthCommand(e), endpointStatusCommand(e), endpointHashKVCommand(e))
	return cmd
}

// endpoints are the members that a verb asks, each by itself.
type endpoints struct {
	*app
	cluster bool // all members of the cluster, not only --endpoints
}

// list gives the endpoints to ask: those of --endpoints, or the client URLs of all members.
func (e *endpoints) list() ([]string, error) {
	if !e.cluster {
		return e.set.endpoints, nil
	}
	c, err := e.client(e.set.endpoints)
	if err != nil {
		return nil, err
	}
	defer closeQuietly(c)
	ctx, cancel := e.timed()
	defer cancel()
	r, err := c.MemberList(ctx)
	if err != nil {
		return nil, e.explain(statusError, fmt.Errorf("failed to fetch endpoints from etcd cluster member list: %w", err))
	}
	var urls []string
	for _, m := range r.Members {
		urls = append(urls, m.ClientURLs...)
	}
	return urls, nil
}

// askEach asks one endpoint after another, each with a client and a time limit of its own, and prints all answers as
// one. What failed is told on stderr with the verb's words; the last failure is returned apart from what ends the verb.
func askEach[T any](e *endpoints, cmd *cobra.Command, what string, ask func(context.Context, *clientv3.Client, string) (T, error)) (failed, err error) {
	c, err := e.prepare(cmd, nil)
	if err != nil {
		return nil, err
	}
	list, err := e.list()
	if err != nil {
		return nil, err
	}
	var answers []T
	for _, ep := range list {
		err := e.one(ep, func(ctx context.Context, c *clientv3.Client) error {
			answer, err := ask(ctx, c, ep)
			if err == nil {
				answers = append(answers, answer)
			}
			return err
		})
		if err != nil {
			failed = err
			fmt.Fprintf(e.diag, "Failed to get the %s of endpoint %s (%v)\n", what, ep, err)
			e.tell(e.hint(err, []string{ep}))
		}
	}
	return failed, printed(c.Print(answers))
}

// one calls ask with a client for one endpoint and a time limit.
func (e *endpoints) one(endpoint string, ask func(context.Context, *clientv3.Client) error) error {
	c, err := e.client([]string{endpoint})
	if err != nil {
		return err
	}
	defer closeQuietly(c)
	ctx, cancel := e.timed()
	defer cancel()
	return ask(ctx, c)
}
