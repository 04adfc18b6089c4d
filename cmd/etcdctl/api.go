package main

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/version"

	"keelson/cmd/etcdctl/v2ctl"
	"keelson/internal/kit/release"
)

// apiVersion checks ETCDCTL_API, which chooses between two programs in one; 3 is the default.
func (a *app) apiVersion() error {
	switch v := a.getenv("ETCDCTL_API"); v {
	case "", "3":
		return nil
	default:
		return &exitError{status: statusError, err: fmt.Errorf("unsupported API version %s", v), hint: "set ETCDCTL_API to 2 or 3, or unset it"}
	}
}

// runV2 runs the command line as one of the v2 API's tool and gives the exit status.
func runV2(a *app) int {
	return v2ctl.Program{
		Args: a.args, Env: a.env, In: a.in, Out: a.out, Diag: a.diag,
		AskPassword: prompter{a.in, a.out}.password,
		Discover:    a.set.srv.endpoints,
		Version: func() {
			fmt.Fprintf(a.out, "etcdctl version: %s\nAPI version: 2\nKeelson %s\n", version.Version, release.Version)
		},
	}.Run()
}
