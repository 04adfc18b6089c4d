package v2ctl

import client "go.etcd.io/etcd/client/v2"

func updatedirVerb() verb {
	return dirVerb("updatedir", "<key> <value>", "sets the TTL of a directory that is there", client.PrevExist)
}
