package raftloop

import (
	"fmt"
	"strings"

	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// raftLogger gives raft a logger that formats nothing below the level in force.
type raftLogger struct{ z *zap.Logger }

var _ raft.Logger = raftLogger{}

// noisy are notes of raft that asynchronous writes or waiting proposals make ordinary.
func noisy(format string) bool {
	return strings.HasPrefix(format, "entry at index") || strings.Contains(format, "dropping")
}

func (l raftLogger) printf(level zapcore.Level, format string, v []any) {
	if noisy(format) {
		level = zapcore.DebugLevel
	}
	if ce := l.z.Check(level, ""); ce != nil {
		ce.Message = fmt.Sprintf(format, v...)
		ce.Write()
	}
}

func (l raftLogger) print(level zapcore.Level, v []any) {
	if ce := l.z.Check(level, ""); ce != nil {
		ce.Message = fmt.Sprint(v...)
		ce.Write()
	}
}

func (l raftLogger) Debug(v ...any)                   { l.print(zapcore.DebugLevel, v) }
func (l raftLogger) Debugf(format string, v ...any)   { l.printf(zapcore.DebugLevel, format, v) }
func (l raftLogger) Info(v ...any)                    { l.print(zapcore.InfoLevel, v) }
func (l raftLogger) Infof(format string, v ...any)    { l.printf(zapcore.InfoLevel, format, v) }
func (l raftLogger) Warning(v ...any)                 { l.print(zapcore.WarnLevel, v) }
func (l raftLogger) Warningf(format string, v ...any) { l.printf(zapcore.WarnLevel, format, v) }
func (l raftLogger) Error(v ...any)                   { l.print(zapcore.ErrorLevel, v) }
func (l raftLogger) Errorf(format string, v ...any)   { l.printf(zapcore.ErrorLevel, format, v) }

// Fatal and Panic mean a broken invariant of raft: both panic, and leave the exit to the owner.
func (l raftLogger) Fatal(v ...any)                 { l.z.Panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any) { l.z.Panic(fmt.Sprintf(format, v...)) }
func (l raftLogger) Panic(v ...any)                 { l.z.Panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any) { l.z.Panic(fmt.Sprintf(format, v...)) }
