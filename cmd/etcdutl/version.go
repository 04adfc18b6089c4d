package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/version"

	"keelson/internal/kit/release"
)

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints the version of etcdutl",
		Long:  "Prints the version of etcd whose commands this etcdutl has, that of the API, and its own.",
		Run: func(*cobra.Command, []string) {
			fmt.Fprintln(a.out, "etcdutl version:", version.Version)
			fmt.Fprintln(a.out, "API version:", version.APIVersion)
			fmt.Fprintln(a.out, "Keelson", release.Version)
		},
	}
}
