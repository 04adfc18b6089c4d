// Package logging builds the logger that everything else is given. Its lines have the names and forms that etcd's have (level,
// ts, caller, msg; microseconds and the zone in ts), so that what reads an etcd's log reads this one.
package logging

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"
)

// Names that an output may have beside paths of files.
const (
	Default = "default" // stderr
	Stderr  = "stderr"
	Stdout  = "stdout"
	Journal = "systemd/journal"

	// discard among the outputs silences all of them.
	discard = "/dev/null"
)

// Options say what is logged and where to. The zero value logs info and above as JSON to stderr.
type Options struct {
	// Level is one of debug, info, warn, error, panic, fatal; empty for info.
	Level string
	// Format is "json" or "console"; empty for json.
	Format string
	// Outputs are names of this package or paths of files, which are appended to; empty for stderr.
	Outputs []string
	// Rotate rotates the one file among Outputs as Rotation says, a JSON object with maxsize (MB), maxage (days), maxbackups,
	// localtime and compress.
	Rotate   bool
	Rotation string
}

// Of lines with the same text, the first sampleFirst of a second are logged, and then one of sampleEach: etcd's numbers.
const (
	sampleFirst = 100
	sampleEach  = 100
)

// New builds a logger. done flushes it and closes its files.
func New(o Options) (log *zap.Logger, done func() error, err error) {
	level := zapcore.InfoLevel
	if o.Level != "" {
		if level, err = zapcore.ParseLevel(o.Level); err != nil {
			return nil, nil, fmt.Errorf("logging: level: %w", err)
		}
	}
	encoder, err := newEncoder(o.Format)
	if err != nil {
		return nil, nil, err
	}
	sink, files, err := open(o)
	if err != nil {
		return nil, nil, err
	}
	core := zapcore.NewSamplerWithOptions(zapcore.NewCore(encoder, sink, level), time.Second, sampleFirst, sampleEach)
	log = zap.New(core, zap.AddCaller(), zap.AddStacktrace(zapcore.DPanicLevel), zap.ErrorOutput(sink))
	return log, func() error { return errors.Join(ignoreTerminal(log.Sync()), files.Close()) }, nil
}

// AtLeast is a logger without the lines below a level. One that leaves out more than those already stays as it is: zap would
// complain on stderr.
func AtLeast(log *zap.Logger, level zapcore.Level) *zap.Logger {
	if log.Level() >= level {
		return log
	}
	return log.WithOptions(zap.IncreaseLevel(level))
}

// ignoreTerminal drops the error of flushing what cannot be flushed: pipes and terminals.
func ignoreTerminal(err error) error {
	var path *os.PathError
	if errors.As(err, &path) && path.Op == "sync" {
		return nil
	}
	return err
}

func newEncoder(format string) (zapcore.Encoder, error) {
	c := zapcore.EncoderConfig{
		TimeKey: "ts", LevelKey: "level", NameKey: "logger", CallerKey: "caller", MessageKey: "msg", StacktraceKey: "stacktrace",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000000Z0700"),
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeCaller:   zapcore.ShortCallerEncoder,
	}
	switch format {
	case "", "json":
		return zapcore.NewJSONEncoder(c), nil
	case "console":
		return zapcore.NewConsoleEncoder(c), nil
	}
	return nil, fmt.Errorf("logging: format %q is not json or console", format)
}

// closers are the files behind a logger.
type closers []io.Closer

func (cs closers) Close() error {
	var errs []error
	for _, c := range cs {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// open opens every output once.
func open(o Options) (zapcore.WriteSyncer, closers, error) {
	names := slices.Clone(o.Outputs)
	if len(names) == 0 {
		names = []string{Stderr}
	}
	for i, name := range names {
		if name == Default {
			names[i] = Stderr
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if slices.Contains(names, discard) {
		return zapcore.AddSync(io.Discard), nil, nil
	}
	var sinks []zapcore.WriteSyncer
	var files closers
	for _, name := range names {
		sink, file, err := openOne(name, o)
		if err != nil {
			return nil, nil, errors.Join(err, files.Close())
		}
		sinks = append(sinks, sink)
		if file != nil {
			files = append(files, file)
		}
	}
	return zapcore.NewMultiWriteSyncer(sinks...), files, nil
}

func openOne(name string, o Options) (zapcore.WriteSyncer, io.Closer, error) {
	switch name {
	case Stderr:
		return zapcore.Lock(os.Stderr), nil, nil
	case Stdout:
		return zapcore.Lock(os.Stdout), nil, nil
	case Journal:
		w, err := newJournal(os.Stderr)
		return w, nil, err
	}
	if o.Rotate {
		r, err := newRotation(name, o.Rotation)
		return zapcore.AddSync(r), r, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("logging: open an output: %w", err)
	}
	return zapcore.Lock(f), f, nil
}

// newRotation reads the rules of rotation. lumberjack locks for itself.
func newRotation(path, rules string) (*lumberjack.Logger, error) {
	r := &lumberjack.Logger{}
	if rules != "" {
		if err := json.Unmarshal([]byte(rules), r); err != nil {
			return nil, fmt.Errorf("logging: rules of rotation (--log-rotation-config-json): %w", err)
		}
	}
	r.Filename = path
	return r, nil
}
