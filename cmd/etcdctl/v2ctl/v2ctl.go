// Package v2ctl is etcdctl with ETCDCTL_API=2: the commands, flags, environment, outputs and exit statuses of etcdctl
// 3.4.23, the last release of the v2 API's tool, so that scripts written for that work unchanged. Only the help is our own.
// Command etcdctl calls it; the v2 API's published client (go.etcd.io/etcd/client/v2) talks to the members.
//
// One file holds one verb or one group of them. The command line is read by Go's flag package and the order of words is
// the older tool's (see grammar.go), not cobra's: -ttl and --ttl are the same flag there, and flags may follow arguments.
package v2ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Program is one invocation: what comes from outside.
type Program struct {
	Args []string // without the program's name
	Env  []string // NAME=value
	In   io.Reader
	Out  io.Writer // answers
	Diag io.Writer // errors and warnings
	// AskPassword shows a text and reads a line that is not shown while it is typed.
	AskPassword func(text string) (string, error)
	// Discover finds the endpoints of a domain by its SRV records, those with TLS or, insecure, all.
	Discover func(ctx context.Context, domain string, insecure bool) ([]string, error)
	// Version prints the program's versions, for --version.
	Version func()
}

// session is an invocation with its global flags: what it takes to reach the cluster.
type session struct {
	Program
	globals
}

// call is one command under way: the session and the arguments that the command's own flags left.
type call struct {
	session
	words []string // behind the command, as they were typed
	args  []string
}

// verb is a command, or a group of them where verbs is set.
type verb struct {
	name  string
	short string // for lists
	args  string // "<key> <value>"
	long  string // what the help says besides; "": nothing
	flags func(*flags)
	run   func(*call) error
	verbs []verb
}

// verbs lists the commands as the help shows them.
func verbs() []verb {
	return []verb{
		backupVerb(), clusterHealthVerb(),
		mkVerb(), mkdirVerb(), rmVerb(), rmdirVerb(), getVerb(), lsVerb(), setVerb(), setdirVerb(), updateVerb(), updatedirVerb(),
		watchVerb(), execWatchVerb(),
		memberVerb(), userVerb(), roleVerb(), authVerb(),
	}
}

func find(all []verb, name string) (verb, bool) {
	for _, v := range all {
		if v.name == name {
			return v, true
		}
	}
	return verb{}, false
}

// Run executes the command line and gives the exit status.
func (p Program) Run() int {
	c := &call{session: session{Program: p}}
	return c.report(c.program())
}

// program reads the global flags and goes to the command.
func (c *call) program() error {
	f := newFlags(c.globals.declare)
	var version bool
	f.boolean(&version, "version, v", "print the versions")
	c.args = c.Args
	if err := f.parse(&c.args, c.Args); err != nil {
		words := "Incorrect Usage. "
		if errors.As(err, new(twoFormsError)) {
			words = ""
		}
		return c.misused(err, words, func() { programHelp(c.Out, f) })
	}
	switch {
	case f.help:
		programHelp(c.Out, f)
		return nil
	case version:
		c.Version()
		return nil
	}
	return c.choose("etcdctl", verbs(), func() { programHelp(c.Out, f) })
}

// choose runs the command of a list that the next argument names, or shows help.
func (c *call) choose(path string, all []verb, help func()) error {
	if len(c.args) == 0 {
		help()
		return nil
	}
	name, rest := c.args[0], c.args[1:]
	if name == "help" || name == "h" {
		if len(rest) == 0 {
			help()
			return nil
		}
		return c.topic(path, all, rest[0])
	}
	v, ok := find(all, name)
	if !ok {
		return c.topic(path, all, name)
	}
	c.args = rest
	if v.verbs != nil {
		return c.group(path+" "+v.name, v)
	}
	return c.single(path+" "+v.name, v)
}

// topic shows the help of one command.
func (c *call) topic(path string, all []verb, name string) error {
	v, ok := find(all, name)
	switch {
	case !ok:
		return &failure{status: statusNoTopic, text: fmt.Sprintf("No help topic for '%s'\n", name)}
	case v.verbs != nil:
		groupHelp(c.Out, path+" "+v.name, v)
	default:
		verbHelp(c.Out, path+" "+v.name, v, newFlags(v.flags))
	}
	return nil
}

func (c *call) group(path string, v verb) error {
	f := newFlags(nil)
	help := func() { groupHelp(c.Out, path, v) }
	if err := f.parse(&c.args, c.args); err != nil {
		return c.misused(err, "Incorrect Usage. ", help)
	}
	if f.help {
		help()
		return nil
	}
	return c.choose(path, v.verbs, help)
}

func (c *call) single(path string, v verb) error {
	f := newFlags(v.flags)
	help := func() { verbHelp(c.Out, path, v, f) }
	c.words = c.args
	if err := f.parse(&c.args, f.flagsFirst(c.words)); err != nil {
		return c.misused(err, "Incorrect Usage: ", help)
	}
	if f.help {
		help()
		return nil
	}
	return v.run(c)
}

// misused tells of a mistake in the flags, where the older tool does: with the help on stdout, and alone on stderr.
func (c *call) misused(err error, words string, help func()) error {
	fmt.Fprintf(c.Out, "%s%v\n\n", words, err)
	help()
	return &failure{status: statusError, text: err.Error() + "\n"}
}
