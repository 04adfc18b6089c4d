package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"keelson/test/fixture"
)

var record = flag.String("record", "", "path of etcdutl 3.7.3: write testdata/*.golden from what it prints")

// Command lines, run in a directory with a snapshot of etcd 3.7.3 (s.db), the state file in it (copy.db), a damaged one
// (bad.db) and a restored data directory (there).
func goldenCases() []string {
	var lines []string
	for _, format := range []string{"simple", "table", "json", "fields", "protobuf", "yaml"} {
		lines = append(lines, "snapshot status s.db -w "+format, "hashkv s.db -w "+format)
	}
	return append(lines,
		`snapshot status copy.db`, `snapshot status`, `snapshot status a b`, `snapshot status none.db`,
		`hashkv s.db --rev 8`, `hashkv s.db --rev 4`, `hashkv s.db --rev 3`, `hashkv s.db --rev 99`, `hashkv s.db --rev -1`, `hashkv none.db`, `hashkv`, `hashkv a b`,
		`snapshot restore s.db`, `snapshot restore s.db`, `snapshot restore s.db --name m1`, `snapshot restore s.db --name m1 --initial-cluster m1=http://localhost:2380`,
		`snapshot restore`, `snapshot restore s.db --data-dir there`, `snapshot restore s.db --data-dir x --wal-dir there`,
		`snapshot restore copy.db --data-dir x`, `snapshot restore copy.db --data-dir y --skip-hash-check`,
		`snapshot restore s.db --data-dir b --bump-revision 100`, `snapshot restore s.db --data-dir b --mark-compacted`,
		`snapshot restore s.db --data-dir b --mark-compacted --bump-revision 100`, `hashkv b/member/snap/db`,
		`defrag`, `defrag --data-dir none`, `defrag --data-dir there`,
		`migrate`, `migrate --data-dir there`, `migrate --data-dir there --target-version 3.4`, `migrate --data-dir there --target-version 3`,
		`migrate --data-dir there --target-version a.b`, `migrate --data-dir none --target-version 3.6`, `migrate --data-dir there --target-version 3.7`,
		`migrate --data-dir there --target-version 3.8`, `migrate --data-dir there --target-version 4.0`, `migrate --data-dir there --target-version 3.5`,
		`migrate --data-dir there --target-version 3.6`, `hashkv there/member/snap/db`,
		`completion`, `completion tcsh`, `nosuch`, `snapshot status s.db --nosuch`,
	)
}

// What is printed to stdout and the exit status are etcd's; of errors, how their text begins.
func TestGolden(t *testing.T) {
	dir := workDir(t)
	origin, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	var b bytes.Buffer
	for _, line := range goldenCases() {
		status, out, diag := runProgram(strings.Fields(line))
		fmt.Fprintf(&b, "==== %s\nexit %d\n%s", line, status, out)
		for l := range strings.Lines(diag) {
			if rest, ok := strings.CutPrefix(l, "Error: "); ok {
				fmt.Fprintln(&b, "stderr:", firstWords(rest))
				break
			}
		}
	}
	golden(t, filepath.Join(origin, "testdata", "etcdutl.golden"), b.String())
}

// firstWords is what of an error's text is compared: ours go on to say what to do.
func firstWords(s string) string {
	words := strings.Fields(strings.Map(func(r rune) rune {
		if strings.ContainsRune(",:;(", r) {
			return ' '
		}
		return r
	}, s))
	return strings.Join(words[:min(len(words), 3)], " ")
}

func workDir(t *testing.T) string {
	t.Helper()
	snapshot := fixture.Gunzip(t, "etcd37-snapshot.db.gz")
	bad := bytes.Clone(snapshot)
	bad[len(bad)/2] ^= 1
	dir := t.TempDir()
	for name, b := range map[string][]byte{"s.db": snapshot, "copy.db": snapshot[:len(snapshot)-32], "bad.db": bad} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if status, _, diag := runProgram([]string{"snapshot", "restore", filepath.Join(dir, "s.db"), "--data-dir", filepath.Join(dir, "there")}); status != 0 {
		t.Fatal(diag)
	}
	return dir
}

func runProgram(args []string) (status int, out, diag string) {
	var stdout, stderr bytes.Buffer
	if *record == "" {
		a := &app{args: args, out: &stdout, diag: &stderr}
		status = a.run()
		return status, stdout.String(), stderr.String()
	}
	snapshot, err := os.ReadFile("s.db") // etcd's hashkv writes to the file that it reads
	cmd := exec.Command(*record, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the status says it
	if err == nil {
		_ = os.WriteFile("s.db", snapshot, 0o600)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *record != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("not what etcdutl 3.7.3 prints (-etcd +ours):\n%s", d)
	}
}

// Every command has a short and a long text, and no line is wider than a wide terminal.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command, path string)
	walk = func(c *cobra.Command, path string) {
		if strings.HasPrefix(path, "etcdutl bbolt ") || c.Name() == "help" {
			return // bbolt's own
		}
		if c.Short == "" || c.Long == "" {
			t.Errorf("%s has no short or no long text", path)
		}
		for line := range strings.Lines(c.Long) {
			if len(line) > 121 {
				t.Errorf("%s: a line of %d bytes: %s", path, len(line), line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub, path+" "+sub.Name())
		}
	}
	walk((&app{out: io.Discard, diag: io.Discard}).root(), "etcdutl")
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if status, out, diag := runProgram([]string{"completion", shell}); status != 0 || !strings.Contains(out, "etcdutl") {
			t.Errorf("completion %s: exit %d, %s", shell, status, diag)
		}
	}
	if status, out, _ := runProgram([]string{"version"}); status != 0 || !strings.HasPrefix(out, "etcdutl version: 3.7.3\nAPI version: 3.7\n") {
		t.Errorf("version: %d, %q", status, out)
	}
}

// bbolt's commands read a sound file, and refuse a damaged one that would kill them.
func TestBbolt(t *testing.T) {
	t.Chdir(workDir(t))
	if status, out, diag := runProgram([]string{"bbolt", "check", "s.db"}); status != 0 {
		t.Errorf("check: exit %d, %q, %q", status, out, diag)
	}
	whole, err := os.ReadFile("s.db")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("cut.db", whole[:2*4096], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range bboltTrusting() {
		args := []string{"bbolt", name, "cut.db", "key", "x", "-o", "out.db"}
		if status, _, diag := runProgram(args[:3+len(usual(name))]); status == 0 || !strings.Contains(diag, "cut.db is damaged") && !strings.Contains(diag, "accepts") && !strings.Contains(diag, "required") {
			t.Errorf("%s: exit %d, %q", name, status, diag)
		}
	}
}

// usual gives the arguments after the file that a command of bbolt's needs.
func usual(name string) []string {
	switch name {
	case "get":
		return []string{"key", "x"}
	case "keys":
		return []string{"key"}
	}
	return nil
}
