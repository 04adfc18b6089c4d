package v2ctl

import client "go.etcd.io/etcd/client/v2"

func rmdirVerb() verb {
	return verb{
		name: "rmdir", args: "<key>", short: "removes an empty directory, or a key",
		run: func(c *call) error { return c.remove(client.DeleteOptions{Dir: true}) },
	}
}
