package main

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

// As etcdctl 3.7.3 drew it: 100 columns wide.
func TestBar(t *testing.T) {
	b := startBar(io.Discard, 10_000)
	b.add(409)
	if got, want := b.line(b.began), "409 / 10000 [--->"+strings.Repeat("_", 68)+"] 4.09% ? p/s"; len(got) != 100 || !strings.HasPrefix(got, "409 / 10000 [") || !strings.HasSuffix(got, "] 4.09% ? p/s") {
		t.Errorf("%q, not %q", got, want)
	}
	b.add(10_000 - 409)
	got := b.line(b.began.Add(2 * time.Second))
	if !strings.HasPrefix(got, "10000 / 10000 [---") || !strings.HasSuffix(got, "--] 100.00% 5000 p/s") || len(got) != 100 {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	startBar(&out, 1).end()
	if strings.Count(out.String(), "\n") != 1 || strings.Contains(out.String(), "\r") {
		t.Errorf("not one line where nobody looks: %q", &out)
	}
}

func TestJudge(t *testing.T) {
	well := func(n int, took float64) *report {
		r := &report{total: time.Minute}
		for range n {
			r.took = append(r.took, took)
		}
		return r
	}
	slow := well(9000, 0.001)
	slow.took[0] = 0.6
	uneven := well(9000, 0.001)
	for i := range 4500 {
		uneven.took[i] = 0.4
	}
	ill := well(9000, 0.001)
	ill.errs = map[string]int{"etcdserver: no space": 2}
	for _, x := range []struct {
		r    *report
		want string
		good bool
	}{
		{well(9000, 0.002), "PASS: Throughput is 151 writes/s\nPASS: Slowest request took 0.002000s\nPASS: Stddev is 0.000000s\nPASS\n", true},
		{well(8099, 0.002), "FAIL: Throughput too low: 135 writes/s\nPASS: Slowest request took 0.002000s\nPASS: Stddev is 0.000000s\nFAIL\n", false},
		{slow, "PASS: Throughput is 151 writes/s\nSlowest request took too long: 0.600000s\nPASS: Stddev is 0.006314s\nFAIL\n", false},
		{uneven, "PASS: Throughput is 151 writes/s\nPASS: Slowest request took 0.400000s\nStddev too high: 0.199500s\nFAIL\n", false},
		{ill, "FAIL: too many errors\nFAIL: ERROR(etcdserver: no space) -> 2\nPASS: Throughput is 151 writes/s\nPASS: Slowest request took 0.001000s\nPASS: Stddev is 0.000000s\nFAIL\n", false},
		{&report{total: time.Minute}, "FAIL: Throughput too low: 1 writes/s\nPASS: Slowest request took 0.000000s\nPASS: Stddev is 0.000000s\nFAIL\n", false},
	} {
		var out bytes.Buffer
		k := &check{app: &app{out: &out}}
		if err := k.judge(x.r, perfLoad{rate: 150}); out.String() != x.want || (err == nil) != x.good {
			t.Errorf("%v\n%s\nnot\n%s", err, &out, x.want)
		}
	}
}

// A whole check, shorter than a minute, against a server that only answers.
func TestCheckPerf(t *testing.T) {
	f := startFake(t, false)
	var out, diag bytes.Buffer
	a := &app{
		args: []string{"--endpoints=" + f.addr, "check", "perf", "--prefix=none", "--auto-compact", "--auto-defrag"},
		in:   strings.NewReader(""), out: &out, diag: &diag, perfTime: time.Second,
	}
	a.run()
	want := regexp.MustCompile(`^Compacting with revision 42\nCompacted with revision 42\nDefragmenting "` + f.addr + `"\n`)
	if !want.MatchString(out.String()) {
		t.Errorf("%s%s", &out, &diag)
	}
}

func TestCheckDatascaleNeedsMetrics(t *testing.T) {
	f := startFake(t, false)
	status, out, _ := runProgram([]string{"--endpoints=" + f.addr, "check", "datascale", "--prefix=none"}, "", nil)
	if status != statusError || !strings.Contains(out, "FAIL: Could not read process_resident_memory_bytes before the put operations.\n") {
		t.Errorf("exit %d, %s", status, out)
	}
}

func TestMirrorNeedsItsDestination(t *testing.T) {
	f := startFake(t, false)
	status, _, diag := runProgram([]string{"--endpoints=" + f.addr, "--dial-timeout=30s", "--command-timeout=1s", "make-mirror", "127.0.0.1:1"}, "", nil)
	if status != statusError || !strings.Contains(diag, "destination 127.0.0.1:1") {
		t.Errorf("exit %d, %s", status, diag)
	}
}
