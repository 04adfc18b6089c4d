package v2ctl

import (
	"fmt"
	"strings"

	client "go.etcd.io/etcd/client/v2"
)

func memberVerb() verb {
	return verb{
		name: "member", short: "shows and changes who belongs to the cluster",
		verbs: []verb{
			{name: "list", short: "lists the members", run: memberList},
			{name: "add", args: "<name> <peerURL>", short: "adds a member, and prints what to start it with", run: memberAdd},
			{name: "remove", args: "<memberID>", short: "removes a member", run: memberRemove},
			{name: "update", args: "<memberID> <peerURLs>", short: "changes a member's peer URLs", run: memberUpdate},
		},
	}
}

func (c *session) dialMembers() (client.MembersAPI, error) {
	cl, err := c.dial()
	if err != nil {
		return nil, err
	}
	return client.NewMembersAPI(cl), nil
}

func memberList(c *call) error {
	if err := c.noArgs(); err != nil {
		return err
	}
	api, err := c.dialMembers()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	all, err := api.List(ctx)
	if err != nil {
		return told(err)
	}
	leader, err := api.Leader(ctx)
	if err != nil {
		return refused("Failed to get leader:  %v", err)
	}
	for _, m := range all {
		peers, clients := strings.Join(m.PeerURLs, ","), strings.Join(m.ClientURLs, ",")
		if m.Name == "" {
			fmt.Fprintf(c.Out, "%s[unstarted]: peerURLs=%s\n", m.ID, peers)
		} else {
			fmt.Fprintf(c.Out, "%s: name=%s peerURLs=%s clientURLs=%s isLeader=%t\n", m.ID, m.Name, peers, clients, m.ID == leader.ID)
		}
	}
	return nil
}

func memberAdd(c *call) error {
	if len(c.args) != 2 {
		return refused("Provide a name and a single member peerURL")
	}
	name, peerURL := c.args[0], c.args[1]
	api, err := c.dialMembers()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	added, err := api.Add(ctx, peerURL)
	if err != nil {
		return told(err)
	}
	fmt.Fprintf(c.Out, "Added member named %s with ID %s to cluster\n", name, added.ID)
	all, err := api.List(ctx)
	if err != nil {
		return told(err)
	}
	var cluster []string
	for _, m := range all {
		if m.ID == added.ID {
			m.Name = name
		}
		for _, u := range m.PeerURLs {
			cluster = append(cluster, m.Name+"="+u)
		}
	}
	fmt.Fprintf(c.Out, "\nETCD_NAME=%q\nETCD_INITIAL_CLUSTER=%q\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n", name, strings.Join(cluster, ","))
	return nil
}

func memberRemove(c *call) error {
	if len(c.args) != 1 {
		return refused("Provide a single member ID")
	}
	id := c.args[0]
	api, err := c.dialMembers()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	all, err := api.List(ctx)
	if err != nil {
		return refused("Error while verifying ID against known members: %v", err)
	}
	known := false
	for _, m := range all {
		known = known || m.ID == id
		if m.Name == id {
			fmt.Fprintf(c.Diag, "Found a member named %s; if this is correct, please use its ID, eg:\n\tetcdctl member remove %s\n"+
				"For more details, read the documentation at https://github.com/etcd-io/etcd/blob/master/Documentation/runtime-configuration.md#remove-a-member\n\n", m.Name, m.ID)
		}
	}
	if !known {
		return refused("Couldn't find a member in the cluster with an ID of %s.", id)
	}
	if err := api.Remove(ctx, id); err != nil {
		return &failure{status: statusError, text: fmt.Sprintf("Received an error trying to remove member %s: %v", id, err), err: err}
	}
	fmt.Fprintf(c.Out, "Removed member %s from cluster\n", id)
	return nil
}

func memberUpdate(c *call) error {
	if len(c.args) != 2 {
		return refused("Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)")
	}
	id := c.args[0]
	api, err := c.dialMembers()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	if err := api.Update(ctx, id, strings.Split(c.args[1], ",")); err != nil {
		return told(err)
	}
	fmt.Fprintf(c.Out, "Updated member with ID %s in cluster\n", id)
	return nil
}
