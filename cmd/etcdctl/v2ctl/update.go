package v2ctl

import client "go.etcd.io/etcd/client/v2"

func updateVerb() verb {
	var ttl int
	return verb{
		name: "update", args: "<key> <value>", short: "sets the value of a key that is there",
		flags: func(f *flags) { f.number(&ttl, "ttl", "seconds", ttlText) },
		run: func(c *call) error {
			return c.write(&client.SetOptions{TTL: seconds(ttl), PrevExist: client.PrevExist})
		},
	}
}
