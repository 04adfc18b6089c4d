package v2ctl

import (
	"errors"
	"fmt"

	client "go.etcd.io/etcd/client/v2"
)

// Exit statuses of etcdctl 3.4.23 in v2 mode.
const (
	statusError         = 1
	statusBadConnection = 2
	statusNoTopic       = 3
	statusServerError   = 4
	statusNotHealthy    = 5
	statusBadArgs       = 1
)

// failure ends the program with a status. Its text is printed as it is, mostly with an end of line.
type failure struct {
	status int
	text   string
	err    error // what it came from; nil: nothing else
}

// Error gives the text.
func (f *failure) Error() string { return f.text }

// Unwrap gives the cause.
func (f *failure) Unwrap() error { return f.err }

// refused ends the program with status 1 and a line.
func refused(format string, args ...any) error {
	return &failure{status: statusError, text: fmt.Sprintf(format, args...) + "\n"}
}

// told ends the program with status 1 and the text of an error, nil where there is none.
func told(err error) error {
	if err == nil {
		return nil
	}
	return &failure{status: statusError, text: err.Error() + "\n", err: err}
}

// failed ends the program with a status and an error in the words of the commands on keys: two spaces behind "Error:".
func failed(status int, err error) error {
	text := fmt.Sprintf("Error:  %v\n", err)
	var all *client.ClusterError
	if errors.As(err, &all) {
		text += all.Detail() + "\n"
	}
	return &failure{status: status, text: text, err: err}
}

// badArgs is failed for what the command line lacks.
func badArgs(text string) error { return failed(statusBadArgs, errors.New(text)) }

// asked ends the program where a call on keys failed.
func asked(err error) error {
	if err == nil {
		return nil
	}
	return failed(statusServerError, err)
}

// report prints an error and gives the status.
func (c *call) report(err error) int {
	if err == nil {
		return 0
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{status: statusError, text: err.Error() + "\n"}
	}
	fmt.Fprint(c.Diag, f.text)
	return f.status
}
