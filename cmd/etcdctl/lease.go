package main

import (
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const leaseHelp = `A lease is a time to live that keys can share (put --lease): unless it is kept alive it ends, and its keys go.
IDs are hexadecimal, as "lease grant" prints them.`

func leaseCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "lease <subcommand>",
		Short:   "Grants, keeps, shows and revokes leases",
		Long:    leaseHelp,
		GroupID: groupKeys,
	}
	cmd.AddCommand(leaseGrantCommand(a), leaseRevokeCommand(a), leaseTimeToLiveCommand(a), leaseListCommand(a), leaseKeepAliveCommand(a))
	return cmd
}

func leaseID(arg string) (clientv3.LeaseID, error) {
	id, err := strconv.ParseInt(arg, 16, 64)
	if err != nil {
		return 0, fail(statusBadArgs, "bad lease ID arg (%w), expecting ID in Hex", err)
	}
	return clientv3.LeaseID(id), nil
}
