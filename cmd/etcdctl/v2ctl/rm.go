package v2ctl

import client "go.etcd.io/etcd/client/v2"

func rmVerb() verb {
	var (
		o     client.DeleteOptions
		index int
	)
	return verb{
		name: "rm", args: "<key>", short: "removes a key or a directory",
		flags: func(f *flags) {
			f.boolean(&o.Dir, "dir", "remove a directory too, if it is empty")
			f.boolean(&o.Recursive, "recursive, r", "remove a directory with all that is in it")
			f.text(&o.PrevValue, "with-value", "value", "only if the key has this value")
			f.number(&index, "with-index", "index", "only if the key was last changed at this index")
		},
		run: func(c *call) error {
			o.PrevIndex = uint64(index)
			return c.remove(o)
		},
	}
}

// remove removes what the command line names.
func (c *call) remove(o client.DeleteOptions) error {
	api, err := c.dialKeys()
	if err != nil {
		return err
	}
	key, err := c.keyArg()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	r, err := api.Delete(ctx, key, &o)
	if err != nil {
		return asked(err)
	}
	if r.Node.Dir {
		return c.printUnlessSimple(r)
	}
	return c.print(r)
}
