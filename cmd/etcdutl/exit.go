package main

import (
	"errors"
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Exit statuses, etcd's.
const (
	statusError      = 1
	statusBadFeature = 4 // a format that is unknown, or has no layout for the answer
	statusIO         = 6 // an answer could not be written
	statusBadArgs    = 128
)

// exitError ends the program with a status. Its text is printed as "Error: …".
type exitError struct {
	status int
	err    error
}

// Error gives the text without the word in front.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.err }

func fail(status int, format string, args ...any) error {
	return &exitError{status, fmt.Errorf(format, args...)}
}

// failed is the error of a verb whose work did not succeed.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{statusError, err}
}

// run executes one command and gives the exit status.
func (a *app) run() int {
	root := a.root()
	root.SetArgs(a.args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	fmt.Fprintln(a.diag, "Error:", err)
	var e *exitError
	switch {
	case errors.As(err, &e):
		return e.status
	case cmd.HasParent():
		fmt.Fprintln(a.diag, cmd.UsageString())
	default:
		fmt.Fprintf(a.diag, "Run '%s --help' for usage.\n", cmd.CommandPath())
	}
	return statusError
}

// logger writes what a verb does, a line each, to stderr.
func (a *app) logger() *zap.Logger {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime, c.EncodeDuration = zapcore.RFC3339TimeEncoder, zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(c), zapcore.AddSync(a.diag), zap.InfoLevel))
}
