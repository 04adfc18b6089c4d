package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// prompter asks a person, or takes what a script gives in the place of one.
type prompter struct {
	in  io.Reader
	out io.Writer
}

// password asks for one. On a terminal it is not shown while it is typed; where the input is none, a line of it is
// taken. As with etcdctl, spaces around it do not count.
func (p prompter) password(text string) (string, error) {
	fmt.Fprint(p.out, text)
	line, err := p.hiddenLine()
	fmt.Fprintln(p.out)
	if err != nil {
		var sig signalError
		if errors.As(err, &sig) {
			return "", err
		}
		return "", fail(statusBadArgs, "failed to ask password: %w", err)
	}
	return strings.TrimSpace(line), nil
}

func (p prompter) hiddenLine() (string, error) {
	f, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return readLine(p.in)
	}
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return "", err
	}
	ctx, stop := untilSignal()
	defer stop()
	type answer struct {
		line []byte
		err  error
	}
	typed := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(int(f.Fd()))
		typed <- answer{line, err}
	}()
	select {
	case got := <-typed:
		return string(got.line), got.err
	case <-ctx.Done(): // the read stays behind; the program ends now, and must not leave a terminal that shows nothing
		return "", errors.Join(notified(ctx), term.Restore(int(f.Fd()), before))
	}
}

// readLine takes one line and not a byte more: what follows may be the answer to the next question.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' || errors.Is(err, io.EOF) && n == 0 {
			return string(line), nil
		}
		if n == 1 {
			line = append(line, b[0])
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
	}
}

// newPassword gives the password that user shall have: asked for twice, or the first word of the input.
func (p prompter) newPassword(user string, interactive bool) (string, error) {
	if !interactive {
		line, err := readLine(p.in)
		if err != nil {
			return "", fail(statusBadArgs, "failed to read password: %w", err)
		}
		for word := range strings.FieldsSeq(line) {
			return word, nil
		}
		return "", nil // the server says what it thinks of that
	}
	first, err := p.password("Password of " + user + ": ")
	if err != nil {
		return "", err
	}
	if first == "" {
		return "", fail(statusBadArgs, "empty password")
	}
	second, err := p.password("Type password of " + user + " again for confirmation: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", fail(statusBadArgs, "given passwords are different")
	}
	return first, nil
}
