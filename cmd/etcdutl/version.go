package main

import (
	"github.com/spf13/cobra"

	"keelson/internal/kit/release"
)

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints the version of etcdutl",
		Long:  "Prints the version of etcd whose commands this etcdutl has, that of the API, and its own.",
		Run:   func(*cobra.Command, []string) { release.Print(a.out, "etcdutl") },
	}
}
