package main

import (
	"bufio"
	"io"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const txnHelp = `Reads a transaction from stdin and runs it as one step: comparisons, then what to do if all of them hold, then what to
do if one does not. Each of the three parts ends with an empty line and may have no lines at all. Prints SUCCESS or
FAILURE for the comparisons, then the answer of every request.

  etcdctl txn <<END
  value("user") = "bad"
  version("user") > "0"

  del user

  put user good

  END

A comparison is WHAT("key") OP "operand", OP one of = != < >, WHAT one of
  value, val     the key's value
  version, ver   how often it was written since it was created; 0: there is no such key
  create, c      the revision it was created at
  mod, m         the revision it was last changed at
  lease          its lease, in hexadecimal; 0: none
A request is put, get or del with their arguments and flags. Words with spaces go in quotes.

With -i a prompt says which part comes next.`

func txnCommand(a *app) *cobra.Command {
	interactive := false
	cmd := &cobra.Command{
		Use:     "txn [options]",
		Short:   "Runs comparisons and requests as one step",
		Long:    txnHelp,
		GroupID: groupKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return fail(statusBadArgs, "txn command does not accept argument")
			}
			c, err := a.dial(cmd, (*clientv3.TxnResponse)(nil))
			if err != nil {
				return err
			}
			defer closeQuietly(c)
			t, err := a.readTransaction(c, interactive)
			if err != nil {
				return err
			}
			ctx, cancel := a.timed() // the time to type does not count
			defer cancel()
			r, err := c.Txn(ctx).If(t.compares...).Then(t.success...).Else(t.failure...).Commit()
			if err != nil {
				return a.explain(statusError, err)
			}
			return printed(c.Print(r))
		},
	}
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "prompt for each part")
	return cmd
}

type transaction struct {
	compares         []clientv3.Cmp
	success, failure []clientv3.Op
}

// readTransaction reads the three parts, with a prompt before each where the user types them.
func (a *app) readTransaction(c *call, interactive bool) (*transaction, error) {
	t, r := &transaction{}, bufio.NewReader(a.in)
	prompt := func(text string) error {
		if !interactive {
			return nil
		}
		return printed(c.Line(text))
	}
	compare := func(line string) error {
		cmp, err := parseCompare(line)
		t.compares = append(t.compares, cmp)
		return err
	}
	request := func(to *[]clientv3.Op) func(string) error {
		return func(line string) error {
			op, err := a.parseRequest(line)
			*to = append(*to, op)
			return err
		}
	}
	for _, part := range []struct {
		prompt string
		take   func(line string) error
	}{
		{"compares:", compare},
		{"success requests (get, put, del):", request(&t.success)},
		{"failure requests (get, put, del):", request(&t.failure)},
	} {
		if err := prompt(part.prompt); err != nil {
			return nil, err
		}
		if err := eachLine(r, part.take); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// eachLine takes lines up to an empty one.
func eachLine(r *bufio.Reader, take func(string) error) error {
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			return &exitError{
				status: statusInvalidInput,
				err:    err,
				hint:   "a transaction has three parts (compares, success requests, failure requests), each ended by an empty line",
			}
		}
		if err != nil {
			return fail(statusInvalidInput, "%w", err)
		}
		line = trimLine(line)
		if line == "" {
			return nil
		}
		if err := take(line); err != nil {
			return err
		}
	}
}
