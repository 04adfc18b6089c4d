package v2ctl

import (
	"fmt"

	client "go.etcd.io/etcd/client/v2"
)

func getVerb() verb {
	var o client.GetOptions
	return verb{
		name: "get", args: "<key>", short: "prints the value of a key",
		flags: func(f *flags) {
			f.boolean(&o.Sort, "sort", "sort what is listed")
			f.boolean(&o.Quorum, "quorum, q", "ask a quorum, not one member for what it knows")
		},
		run: func(c *call) error {
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
			r, err := api.Get(ctx, key, &o)
			if err != nil {
				return asked(err)
			}
			if r.Node.Dir {
				fmt.Fprintf(c.Diag, "%s: is a directory\n", r.Node.Key)
				return &failure{status: statusError}
			}
			return c.print(r)
		},
	}
}
