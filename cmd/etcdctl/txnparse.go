package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func trimLine(s string) string { return strings.TrimSpace(s) }

// parseCompare reads one comparison of a transaction: WHAT("key") OP "operand".
func parseCompare(line string) (clientv3.Cmp, error) {
	none := clientv3.Cmp{}
	malformed := func(format string, args ...any) (clientv3.Cmp, error) {
		return none, fail(statusInvalidInput, "malformed comparison: %s%s", line, fmt.Sprintf(format, args...))
	}
	what, rest, ok := strings.Cut(line, "(")
	if !ok {
		return malformed("")
	}
	what = trimLine(what)
	var key, op, operand string
	key, rest, keyOK := cutQuoted(rest)
	rest, closed := strings.CutPrefix(rest, ")")
	op, rest = cutOperator(rest)
	operand, rest, operandOK := cutQuoted(rest)
	if !keyOK || !closed || op == "" || !operandOK || rest != "" {
		return malformed("; got %s(%q) %s %q", what, key, op, operand)
	}
	number := func(base int) (int64, error) {
		n, err := strconv.ParseInt(operand, base, 64)
		if err != nil {
			return 0, fail(statusInvalidInput, "invalid txn compare request: %s", line)
		}
		return n, nil
	}
	var n int64
	var err error
	switch what {
	case "val", "value":
		return clientv3.Compare(clientv3.Value(key), op, operand), nil
	case "ver", "version":
		if n, err = number(10); err == nil {
			return clientv3.Compare(clientv3.Version(key), op, n), nil
		}
	case "c", "create":
		if n, err = number(10); err == nil {
			return clientv3.Compare(clientv3.CreateRevision(key), op, n), nil
		}
	case "m", "mod":
		if n, err = number(10); err == nil {
			return clientv3.Compare(clientv3.ModRevision(key), op, n), nil
		}
	case "lease":
		if n, err = number(16); err == nil {
			return clientv3.Compare(clientv3.LeaseValue(key), op, n), nil
		}
	default:
		return malformed(" (unknown target %s)", what)
	}
	return none, err
}

// cutQuoted takes a quoted word, as Go writes it, and the spaces around it off s.
func cutQuoted(s string) (word, rest string, ok bool) {
	s = trimLine(s)
	if s == "" || s[0] == '\'' {
		return "", s, false
	}
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", s, false
	}
	word, err = strconv.Unquote(quoted)
	return word, trimLine(s[len(quoted):]), err == nil
}

// cutOperator takes =, !=, < or > off s; "" where there is none.
func cutOperator(s string) (op, rest string) {
	s = trimLine(s)
	end := strings.IndexAny(s, "\"` ")
	if end < 0 {
		return "", s
	}
	switch s[:end] {
	case "=", "!=", "<", ">":
		return s[:end], s[end:]
	}
	return "", s
}

// parseRequest reads one request of a transaction: put, get or del with their arguments and flags.
func (a *app) parseRequest(line string) (clientv3.Op, error) {
	words, err := splitWords(line)
	if err != nil {
		return clientv3.Op{}, fail(statusInvalidInput, "invalid txn request: %s (%w)", line, err)
	}
	if len(words) < 2 {
		return clientv3.Op{}, fail(statusInvalidInput, "invalid txn compare request: %s", line)
	}
	fs := pflag.NewFlagSet(words[0], pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var put putFlags
	var get getFlags
	var del delFlags
	verbs := map[string]func(*pflag.FlagSet){"put": put.bind, "get": get.bind, "del": del.bind}
	bind, ok := verbs[words[0]]
	if !ok {
		return clientv3.Op{}, fail(statusInvalidInput, "invalid txn request: %s", line)
	}
	bind(fs)
	if err := fs.Parse(words[1:]); err != nil {
		return clientv3.Op{}, fail(statusInvalidInput, "invalid txn request: %s", line)
	}
	var key, value string
	var opts []clientv3.OpOption
	switch words[0] {
	case "put":
		// stdin holds the rest of the transaction, never a value
		if key, value, opts, err = put.request(fs.Args(), strings.NewReader("")); err == nil {
			return clientv3.OpPut(key, value, opts...), nil
		}
	case "get":
		if key, opts, err = get.request(fs.Args()); err == nil {
			return clientv3.OpGet(key, opts...), nil
		}
	case "del":
		if key, opts, err = del.request(a, fs.Args()); err == nil {
			return clientv3.OpDelete(key, opts...), nil
		}
	}
	return clientv3.Op{}, err
}

// splitWords splits a line as etcdctl reads commands from stdin: words between spaces, "quoted as in Go" or 'taken as
// they are'. A quote inside a word is an ordinary character.
func splitWords(line string) (words []string, err error) {
	for line = trimLine(line); line != ""; line = trimLine(line) {
		var word string
		switch line[0] {
		case '"':
			quoted, qerr := strconv.QuotedPrefix(line)
			if qerr != nil {
				return nil, fmt.Errorf("the quote before %s has no end or a wrong escape", line)
			}
			if word, err = strconv.Unquote(quoted); err != nil {
				return nil, fmt.Errorf("wrong escape in %s", quoted)
			}
			line = line[len(quoted):]
		case '\'':
			inside, rest, closed := strings.Cut(line[1:], "'")
			if !closed {
				return nil, fmt.Errorf("the quote before %s has no end", line)
			}
			word, line = inside, rest
		default:
			end := strings.IndexAny(line, " \t\r\n\v\f")
			if end < 0 {
				end = len(line)
			}
			word, line = line[:end], line[end:]
		}
		words = append(words, word)
	}
	return words, nil
}
