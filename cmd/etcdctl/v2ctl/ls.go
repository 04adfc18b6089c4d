package v2ctl

import (
	"fmt"

	client "go.etcd.io/etcd/client/v2"
)

func lsVerb() verb {
	var (
		o     client.GetOptions
		slash bool
	)
	return verb{
		name: "ls", args: "[key]", short: "lists the names in a directory",
		flags: func(f *flags) {
			f.boolean(&o.Sort, "sort", "sort by name")
			f.boolean(&o.Recursive, "recursive, r", "list also what is in the directories below")
			f.boolean(&slash, "p", "print a / behind the name of a directory")
			f.boolean(&o.Quorum, "quorum, q", "ask a quorum, not one member for what it knows")
		},
		run: func(c *call) error {
			api, err := c.dialKeys()
			if err != nil {
				return err
			}
			key := "/"
			if len(c.args) > 0 {
				key = c.args[0]
			}
			ctx, cancel := c.limited()
			defer cancel()
			r, err := api.Get(ctx, key, &o)
			if err != nil {
				return asked(err)
			}
			if c.output != "simple" {
				return c.print(r)
			}
			if !r.Node.Dir {
				fmt.Fprintln(c.Out, r.Node.Key)
			}
			c.list(r.Node.Nodes, slash)
			return nil
		},
	}
}

// list prints names, each directory's before those in it.
func (c *call) list(nodes client.Nodes, slash bool) {
	for _, n := range nodes {
		if n.Dir && slash {
			fmt.Fprintf(c.Out, "%s/\n", n.Key)
		} else {
			fmt.Fprintln(c.Out, n.Key)
		}
		c.list(n.Nodes, slash)
	}
}
