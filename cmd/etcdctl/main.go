// Command etcdctl is the command line of an etcd cluster: keys, watches, leases, locks, elections, and the state of
// the members.
//
// It takes the flags, the ETCDCTL_… environment, the output formats and the exit statuses of etcdctl 3.7.3, so that
// scripts written for that work unchanged. One file holds one verb with its help; package output holds the formats.
package main

import (
	"io"
	"os"
	"time"
)

func main() {
	a := &app{
		args: os.Args[1:],
		env:  os.Environ(),
		in:   os.Stdin,
		out:  os.Stdout,
		diag: os.Stderr,
		wait: time.Sleep,
	}
	os.Exit(a.run())
}

// app is one invocation: what comes from outside, and the global flags.
type app struct {
	args []string // without the program's name
	env  []string // NAME=value
	in   io.Reader
	out  io.Writer // answers
	diag io.Writer // errors, warnings, hints

	wait     func(time.Duration) // the pause before a delete of a range
	perfTime time.Duration       // how long check perf writes; 0: a minute

	set settings
}
