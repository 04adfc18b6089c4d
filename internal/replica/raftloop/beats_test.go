package raftloop

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestLateHeartbeats(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	o := &Options{Tick: 100 * time.Millisecond, Logger: zap.New(core)}
	var b beats
	at := func(ms int, to uint64) { b.sent(o, to, time.Duration(ms)*time.Millisecond) }
	at(0, 10)
	at(50, 11)
	at(200, 10) // just on time
	at(251, 11) // 1 ms late
	b.begin()
	at(900, 10) // another leadership
	if b.late.Load() != 1 || logs.Len() != 1 {
		t.Fatalf("%d late, %d lines", b.late.Load(), logs.Len())
	}
	line := logs.All()[0]
	fields := line.ContextMap()
	if line.Message != "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk" ||
		fields["to"] != "b" || fields["expected-duration"] != 200*time.Millisecond || fields["exceeded-duration"] != time.Millisecond {
		t.Errorf("%q %v", line.Message, fields)
	}
	o.ManualTick = true
	at(5000, 10)
	if b.late.Load() != 1 {
		t.Error("time that the owner makes is judged")
	}
}
