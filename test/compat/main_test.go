package compat

import (
	"os"
	"path/filepath"
	"testing"

	"keelson/test/process"
)

// ours gives Keelson's binaries.
func ours(t testing.TB) process.Program { return program(t, "KEELSON_BIN", "keelson", "") }

// stock gives one of the real ones: etcd37, etcd36 or etcd35.
func stock(t testing.TB, name string) process.Program {
	return program(t, "KEELSON_PEERS", name, name)
}

func program(t testing.TB, env, name, folder string) process.Program {
	t.Helper()
	dir := os.Getenv(env)
	if dir == "" {
		t.Skipf("%s is not set: make compat builds what is compared, and sets it", env)
	}
	p := process.Program{Name: name, Bin: filepath.Join(dir, folder)}
	if _, err := os.Stat(p.Path("etcd")); err != nil {
		t.Skipf("%v: make peers builds it", err)
	}
	return p
}

// single makes a member of a cluster of one. Stock etcd checks its own invariants while it runs.
func single(t testing.TB, p process.Program, flags ...string) *process.Member {
	t.Helper()
	m := process.Single(t, p, "", flags...)
	m.Env = []string{"ETCD_VERIFY=all"}
	return m
}
