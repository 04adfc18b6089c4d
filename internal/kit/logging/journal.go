package logging

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap/zapcore"
)

// ErrNoJournal is returned when systemd's journal is asked for and does not answer.
var ErrNoJournal = errors.New("logging: there is no systemd journal on this machine: choose another --log-outputs")

// journalWriter sends lines to systemd's journal with the priority of their level, and to another writer those that the
// journal does not take.
type journalWriter struct {
	spare io.Writer
	send  func(message string, priority journal.Priority, vars map[string]string) error
}

func newJournal(spare io.Writer) (zapcore.WriteSyncer, error) {
	if !journal.Enabled() {
		return nil, ErrNoJournal
	}
	return zapcore.Lock(zapcore.AddSync(&journalWriter{spare: spare, send: journal.Send})), nil
}

// Write takes one whole line, as zap writes them. A line of the console format has no readable level and counts as info.
func (w *journalWriter) Write(p []byte) (int, error) {
	var line struct {
		Level  zapcore.Level `json:"level"`
		Caller string        `json:"caller"`
	}
	if json.Unmarshal(p, &line) != nil {
		line.Level = zapcore.InfoLevel
	}
	vars := map[string]string{"PACKAGE": filepath.Dir(line.Caller), "SYSLOG_IDENTIFIER": filepath.Base(os.Args[0])}
	if w.send(string(p), priority(line.Level), vars) != nil {
		return w.spare.Write(p)
	}
	return len(p), nil
}

func priority(l zapcore.Level) journal.Priority {
	switch {
	case l < zapcore.InfoLevel:
		return journal.PriDebug
	case l == zapcore.InfoLevel:
		return journal.PriInfo
	case l == zapcore.WarnLevel:
		return journal.PriWarning
	case l == zapcore.ErrorLevel:
		return journal.PriErr
	}
	return journal.PriCrit
}
