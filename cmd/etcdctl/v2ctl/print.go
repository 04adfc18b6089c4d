package v2ctl

import (
	"encoding/json"
	"fmt"
	"io"

	client "go.etcd.io/etcd/client/v2"
)

// print shows what a call on one key answered, in the format of --output.
func (c *call) print(r *client.Response) error {
	deleted := r.Action == "delete"
	switch c.output {
	case "simple":
		if deleted {
			fmt.Fprintln(c.Out, "PrevNode.Value:", valueOf(r.PrevNode))
		} else {
			fmt.Fprintln(c.Out, r.Node.Value)
		}
	case "extended":
		fmt.Fprintln(c.Out, "Key:", r.Node.Key)
		fmt.Fprintln(c.Out, "Created-Index:", r.Node.CreatedIndex)
		fmt.Fprintln(c.Out, "Modified-Index:", r.Node.ModifiedIndex)
		if r.PrevNode != nil {
			fmt.Fprintln(c.Out, "PrevNode.Value:", r.PrevNode.Value)
		}
		fmt.Fprintln(c.Out, "TTL:", r.Node.TTL)
		fmt.Fprintln(c.Out, "Index:", r.Index)
		if !deleted {
			fmt.Fprintf(c.Out, "\n%s\n", r.Node.Value)
		}
	case "json":
		b, err := json.Marshal(r)
		if err != nil {
			return told(err)
		}
		fmt.Fprintf(c.Out, "%s\n", b)
	default:
		fmt.Fprintln(c.Diag, "Unsupported output format:", c.output)
	}
	return nil
}

func valueOf(n *client.Node) string {
	if n == nil {
		return ""
	}
	return n.Value
}

// printUnlessSimple is print for what has nothing to show but that it was done.
func (c *call) printUnlessSimple(r *client.Response) error {
	if c.output == "simple" {
		return nil
	}
	return c.print(r)
}

// argOrInput gives an argument, or all of the input in its place. ok tells whether there is either.
func (c *call) argOrInput(i int) (value string, ok bool) {
	if i < len(c.args) {
		return c.args[i], true
	}
	b, err := io.ReadAll(c.In)
	return string(b), err == nil && len(b) > 0
}

// keyAndValue gives the two arguments of a command that writes; the value may come from the input.
func (c *call) keyAndValue() (key, value string, err error) {
	if len(c.args) == 0 {
		return "", "", badArgs("key required")
	}
	value, ok := c.argOrInput(1)
	if !ok {
		return "", "", badArgs("value required")
	}
	return c.args[0], value, nil
}

// keyArg gives the argument of a command on one key.
func (c *call) keyArg() (string, error) {
	if len(c.args) == 0 {
		return "", badArgs("key required")
	}
	return c.args[0], nil
}
