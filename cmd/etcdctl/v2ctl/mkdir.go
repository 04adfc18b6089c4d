package v2ctl

import client "go.etcd.io/etcd/client/v2"

func mkdirVerb() verb {
	return dirVerb("mkdir", "<key>", "makes a directory that is not there yet", client.PrevNoExist)
}
