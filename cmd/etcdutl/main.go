// Command etcdutl works on the files of a member that does not run: it tells what a snapshot holds, restores data
// directories from one, defragments, hashes, and moves the storage version.
//
// It takes the flags, the output formats and the exit statuses of etcdutl 3.7.3, so that scripts written for that work
// unchanged. One file holds one verb with its help; print.go holds the formats.
package main

import (
	"io"
	"os"
)

func main() {
	a := &app{args: os.Args[1:], out: os.Stdout, diag: os.Stderr}
	os.Exit(a.run())
}

// app is one invocation: what comes from outside, and the global flags.
type app struct {
	args []string // without the program's name
	out  io.Writer
	diag io.Writer // errors, logs, progress

	set settings
}
