package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const endpointHelp = `Asks every endpoint by itself, one connection each, so that the answer says which member is ill.`

func (a *app) endpoint() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "endpoint <subcommand>",
		Short:   "Shows health and state of each member",
		Long:    endpointHelp,
		GroupID: groupCluster,
	}
	cluster := cmd.PersistentFlags().Bool("cluster", false, "ask all members of the cluster, not only --endpoints")
	cmd.AddCommand(a.endpointHealth(cluster), a.endpointStatus(cluster), a.endpointHashKV(cluster))
	return cmd
}

// eachOf gives the endpoints to ask: those of --endpoints, or the client URLs of all members.
func (a *app) eachOf(cluster bool) ([]string, error) {
	if !cluster {
		return a.set.endpoints, nil
	}
	c, err := a.client(a.set.endpoints)
	if err != nil {
		return nil, err
	}
	defer closeQuietly(c)
	ctx, cancel := a.timed()
	defer cancel()
	r, err := c.MemberList(ctx)
	if err != nil {
		return nil, a.explain(statusError, fmt.Errorf("failed to fetch endpoints from etcd cluster member list: %w", err))
	}
	var endpoints []string
	for _, m := range r.Members {
		endpoints = append(endpoints, m.ClientURLs...)
	}
	return endpoints, refuseSecure(endpoints)
}

// askEach calls ask for one endpoint after another, each with a client and a time limit of its own. What failed is told
// on stderr with the verb's words; the last failure is returned, after every endpoint was asked.
func (a *app) askEach(endpoints []string, what string, ask func(context.Context, *clientv3.Client, string) error) (last error) {
	for _, ep := range endpoints {
		err := a.askOne(ep, ask)
		if err == nil {
			continue
		}
		last = err
		fmt.Fprintf(a.diag, "Failed to get the %s of endpoint %s (%v)\n", what, ep, err)
		a.tell(a.hint(err, []string{ep}))
	}
	return last
}

func (a *app) askOne(endpoint string, ask func(context.Context, *clientv3.Client, string) error) error {
	c, err := a.client([]string{endpoint})
	if err != nil {
		return err
	}
	defer closeQuietly(c)
	ctx, cancel := a.timed()
	defer cancel()
	return ask(ctx, c, endpoint)
}
