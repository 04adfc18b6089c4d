package v2ctl

import (
	"time"

	client "go.etcd.io/etcd/client/v2"
)

func setVerb() verb {
	var (
		o          client.SetOptions
		ttl, index int
	)
	return verb{
		name: "set", args: "<key> <value>", short: "sets the value of a key",
		long: "A value that begins with - is written behind --: set -- <key> <value>. Without one, all of the input is taken.",
		flags: func(f *flags) {
			f.number(&ttl, "ttl", "seconds", ttlText)
			f.text(&o.PrevValue, "swap-with-value", "value", "only if the key has this value")
			f.number(&index, "swap-with-index", "index", "only if the key was last changed at this index")
		},
		run: func(c *call) error {
			o.TTL, o.PrevIndex = seconds(ttl), uint64(index)
			return c.write(&o)
		},
	}
}

const ttlText = "remove it by itself after this time (0: never)"

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// write sets the key of the command line to its value.
func (c *call) write(o *client.SetOptions) error {
	api, err := c.dialKeys()
	if err != nil {
		return err
	}
	key, value, err := c.keyAndValue()
	if err != nil {
		return err
	}
	ctx, cancel := c.limited()
	defer cancel()
	r, err := api.Set(ctx, key, value, o)
	if err != nil {
		return asked(err)
	}
	return c.print(r)
}

// writeDir makes or changes the directory of the command line.
func (c *call) writeDir(o client.SetOptions) error {
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
	o.Dir = true
	r, err := api.Set(ctx, key, "", &o)
	if err != nil {
		return asked(err)
	}
	return c.printUnlessSimple(r)
}
