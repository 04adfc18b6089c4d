package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"keelson/cmd/etcdctl/output"
)

// Exit statuses, etcd's.
const (
	statusError         = 1
	statusBadConnection = 2
	statusInvalidInput  = 3 // what txn and watch read from stdin
	statusBadFeature    = 4 // a known flag or command with a value or a use that is not there
	statusInterrupted   = 5 // the server ended a watch
	statusIO            = 6 // an answer could not be written
	statusBadArgs       = 128

	statusSignal = 128 // plus the signal's number, as a shell reports a program that a signal ended
)

// exitError ends the program with a status. Its text is printed as "Error: …", the hint on a line below it.
type exitError struct {
	status int
	err    error  // nil: the verb has told already
	hint   string // what to look at or to type; "": none
}

// Error gives the text without the word in front.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.err }

func fail(status int, format string, args ...any) error {
	return &exitError{status: status, err: fmt.Errorf(format, args...)}
}

// printed turns an error of the printer into the status for it.
func printed(err error) error {
	var u *output.UnsupportedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &u), errors.Is(err, output.ErrFormat):
		return &exitError{status: statusBadFeature, err: err}
	}
	return &exitError{status: statusIO, err: err}
}

// run executes one command and gives the exit status.
func (a *app) run() int {
	if a.getenv("ETCDCTL_API") == "2" {
		return runV2(a)
	}
	root := a.root()
	root.SetArgs(a.args)
	if err := a.apiVersion(); err != nil {
		return a.report(root, err)
	}
	cmd, err := root.ExecuteC()
	return a.report(cmd, err)
}

// report prints an error as etcdctl does and gives the status: of a verb's own error its text alone, of a mistake in
// the flags also the usage.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	var sig signalError
	if errors.As(err, &sig) {
		return statusSignal + int(sig.signal)
	}
	var e *exitError
	if !errors.As(err, &e) {
		fmt.Fprintln(a.diag, "Error:", err)
		if cmd.HasParent() {
			fmt.Fprintln(a.diag, cmd.UsageString())
		} else {
			fmt.Fprintf(a.diag, "Run '%s --help' for usage.\n", cmd.CommandPath())
		}
		return statusError
	}
	if e.err != nil {
		fmt.Fprintln(a.diag, "Error:", e.err)
	}
	a.tell(e.hint)
	return e.status
}

// tell prints a hint, "" for none.
func (a *app) tell(hint string) {
	if hint != "" {
		fmt.Fprintln(a.diag, "Hint:", strings.ReplaceAll(hint, "\n", "\n      "))
	}
}

// signalError ends the program after SIGINT or SIGTERM, silently.
type signalError struct{ signal syscall.Signal }

// Error names the signal.
func (e signalError) Error() string { return "ended by " + e.signal.String() }

// caught is the error for a command that a signal ended.
func caught(s os.Signal) error {
	if n, ok := s.(syscall.Signal); ok {
		return signalError{n}
	}
	return signalError{syscall.SIGINT}
}

// stopped tells whether a context of untilSignal has ended.
func stopped(ctx context.Context) bool { return ctx.Err() != nil }

// notified tells what ended a context of untilSignal, nil while nothing has.
func notified(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}
