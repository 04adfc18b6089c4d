package main

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWatchArgs(t *testing.T) {
	env := watchRequest{key: "envkey"}
	span := watchRequest{key: "envkey", end: "envend", ranged: true}
	one := func(key string, exec ...string) watchRequest { return watchRequest{key: key, exec: exec} }
	for _, c := range []struct {
		name string
		args []string
		dash int
		env  watchRequest
		want watchRequest
		err  error
	}{
		{name: "key", args: []string{"k"}, dash: -1, want: one("k")},
		{name: "range", args: []string{"k", "z"}, dash: -1, want: watchRequest{key: "k", end: "z", ranged: true}},
		{name: "more than a range", args: []string{"k", "z", "q"}, dash: -1, want: one("k")},
		{name: "empty key", args: []string{""}, dash: -1, want: one("")},
		{name: "command", args: []string{"k", "echo", "-n"}, dash: 1, want: one("k", "echo", "-n")},
		{name: "range and command", args: []string{"k", "z", "echo"}, dash: 2, want: watchRequest{key: "k", end: "z", ranged: true, exec: []string{"echo"}}},
		{name: "key of the environment", dash: -1, env: env, want: env},
		{name: "range of the environment", dash: -1, env: span, want: span},
		{name: "environment and command", args: []string{"echo"}, dash: 0, env: env, want: one("envkey", "echo")},
		{name: "nothing", dash: -1, err: errArgs},
		{name: "only a command", args: []string{"echo"}, dash: 0, err: errArgs},
		{name: "nothing after the separator", args: []string{"k"}, dash: 1, err: errArgsSeparator},
		{name: "key twice", args: []string{"k"}, dash: -1, env: env, err: errArgsEnv},
		{name: "key twice and command", args: []string{"k", "echo"}, dash: 1, env: env, err: errArgsEnv},
	} {
		got, err := watchArgs(c.args, c.dash, c.env)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if err == nil && !cmp.Equal(got, c.want, cmp.AllowUnexported(watchRequest{})) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestWatchLine(t *testing.T) {
	f, r, err := watchLine([]string{"--rev", "5", "foo", "--prev-kv", "--", "echo", "--rev"}, watchRequest{})
	if err != nil || f.rev != 5 || !f.prevKV || f.prefix || r.key != "foo" || !cmp.Equal(r.exec, []string{"echo", "--rev"}) {
		t.Errorf("%+v %+v %v", f, r, err)
	}
	if f, _, err := watchLine([]string{"--prefix"}, watchRequest{key: "env"}); err != nil || !f.prefix {
		t.Errorf("%+v %v", f, err)
	}
	if _, _, err := watchLine([]string{"foo", "--limit=1"}, watchRequest{}); err == nil {
		t.Error("an unknown flag is taken")
	}
}

func TestWatchEnvNeedsAKey(t *testing.T) {
	a := &app{env: []string{"ETCDCTL_WATCH_RANGE_END=z"}}
	var e *exitError
	if _, err := a.watchEnv(); !errors.As(err, &e) || e.status != statusBadArgs {
		t.Errorf("%v", err)
	}
}

func TestWatchRunsTheCommand(t *testing.T) {
	f := startFake(t, false)
	script := `echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY`
	status, out, diag := runProgram([]string{"--endpoints=" + f.addr, "watch", "key", "--", "/bin/sh", "-c", script}, "", nil)
	want := "PUT\nkey two\nsecond\nkey\nbin\x00\x7f\xffé\"q\"\nDELETE\nkey\n\n42 \"PUT\" \"key\"\n42 \"DELETE\" \"key\"\nprogress notify: 42\n"
	if status != statusInterrupted || out != want {
		t.Errorf("exit %d, %q, want %q; %s", status, out, want, diag)
	}
	if status, _, diag := runProgram([]string{"--endpoints=" + f.addr, "watch", "key", "--", "/bin/sh", "-c", "exit 9"}, "", nil); status != statusError {
		t.Errorf("exit %d after the command failed, %s", status, diag)
	}
}
