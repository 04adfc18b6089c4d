package v2ctl

import client "go.etcd.io/etcd/client/v2"

func mkVerb() verb {
	var (
		inOrder bool
		ttl     int
	)
	return verb{
		name: "mk", args: "<key> <value>", short: "makes a key that is not there yet",
		flags: func(f *flags) {
			f.boolean(&inOrder, "in-order", "make a key in the directory <key>, with a name that sorts behind all made so before")
			f.number(&ttl, "ttl", "seconds", ttlText)
		},
		run: func(c *call) error {
			if !inOrder {
				return c.write(&client.SetOptions{TTL: seconds(ttl), PrevExist: client.PrevNoExist})
			}
			api, err := c.dialKeys()
			if err != nil {
				return err
			}
			dir, value, err := c.keyAndValue()
			if err != nil {
				return err
			}
			ctx, cancel := c.limited()
			defer cancel()
			r, err := api.CreateInOrder(ctx, dir, value, &client.CreateInOrderOptions{TTL: seconds(ttl)})
			if err != nil {
				return asked(err)
			}
			return c.print(r)
		},
	}
}
