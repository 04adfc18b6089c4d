package sim

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// journal is what happened, in order, with the time since the beginning.
type journal struct {
	start time.Time
	mu    sync.Mutex // guards text
	text  bytes.Buffer
}

func (j *journal) add(who, format string, args ...any) {
	since := time.Since(j.start)
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(&j.text, "%10.6f %-4s ", since.Seconds(), who)
	fmt.Fprintf(&j.text, format, args...)
	j.text.WriteByte('\n')
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// logger gives a member's logger, which writes into the journal. Instead of a panic it calls fatal and ends the
// goroutine: raft panics about what it can't go on with, and the seed has to be told.
func (j *journal) logger(who string, fatal func(format string, args ...any)) *zap.Logger {
	enc := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "msg", LevelKey: "level", EncodeLevel: zapcore.CapitalLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder, ConsoleSeparator: " "})
	return zap.New(zapcore.NewCore(enc, zapcore.AddSync(lines{j, who}), zapcore.InfoLevel), zap.WithPanicHook(ending{who, fatal}))
}

type ending struct {
	who   string
	fatal func(format string, args ...any)
}

func (e ending) OnWrite(ce *zapcore.CheckedEntry, _ []zapcore.Field) {
	e.fatal("%s panicked: %s", e.who, ce.Message)
	runtime.Goexit()
}

type lines struct {
	j   *journal
	who string
}

func (l lines) Write(p []byte) (int, error) {
	l.j.add(l.who, "%s", bytes.TrimRight(p, "\n"))
	return len(p), nil
}
