package main

import (
	"github.com/spf13/cobra"

	"keelson/internal/kit/release"
)

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Prints the version of etcdctl",
		Long:    "Prints the version of etcd whose commands this etcdctl has, that of the API, and its own.",
		GroupID: groupOther,
		Run:     func(*cobra.Command, []string) { release.Print(a.out, "etcdctl") },
	}
}
