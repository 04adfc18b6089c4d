package v2ctl

import client "go.etcd.io/etcd/client/v2"

func setdirVerb() verb {
	return dirVerb("setdir", "<key>", "makes a directory, or sets the TTL of one that is there", client.PrevIgnore)
}

// dirVerb is a command that writes a directory, on the condition exist.
func dirVerb(name, args, short string, exist client.PrevExistType) verb {
	var ttl int
	return verb{
		name: name, args: args, short: short,
		flags: func(f *flags) { f.number(&ttl, "ttl", "seconds", ttlText) },
		run: func(c *call) error {
			return c.writeDir(client.SetOptions{TTL: seconds(ttl), PrevExist: exist})
		},
	}
}
