package e2e

import (
	"fmt"
	"os"
	"testing"

	"keelson/test/process"
)

// keelson is this tree's binaries: those of KEELSON_BIN, or built once for all tests.
var keelson process.Program

// faulty builds the programs with a disk that fails on demand, by the file that the environment variable names.
func faulty(t *testing.T) process.Program {
	t.Helper()
	p, err := process.Build(t.TempDir(), "faultvfs")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// long skips a test that takes half a minute, but where it was asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("KEELSON_LONG") == "" {
		t.Skip("KEELSON_LONG is not set: make e2e sets it")
	}
}

// plainOnly skips a test that can't be run with the certificates and users that KEELSON_TLS gives every cluster.
func plainOnly(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("KEELSON_TLS") != "" {
		t.Skip(why)
	}
}

// membersOnly skips a test that asks members what a proxy answers otherwise, where KEELSON_PROXY puts one before every cluster.
func membersOnly(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("KEELSON_PROXY") != "" {
		t.Skip(why)
	}
}

func TestMain(m *testing.M) {
	os.Exit(build(m))
}

func build(m *testing.M) int {
	if bin := os.Getenv("KEELSON_BIN"); bin != "" {
		keelson = process.Program{Name: "keelson", Bin: bin}
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "keelson-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		keelson, err = process.Build(dir, "")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
