package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Enabling gives root its role where that is missing, and does not go on where the user is.
func TestEnableMakesTheRoleRoot(t *testing.T) {
	f := startFake(t, false)
	status, out, diag := runProgram([]string{"--endpoints=" + f.addr, "--user=root:rootless", "auth", "enable"}, "", nil)
	if status != 0 || out != "Authentication Enabled\n" || diag != "" {
		t.Errorf("exit %d, %q, %q", status, out, diag)
	}
	if diff := cmp.Diff([]string{"role root", "role root for root"}, f.made); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
}

// What is asked for and what is sent: the password of the new user is not the caller's, and prompts go where etcdctl's go.
func TestPasswords(t *testing.T) {
	for _, c := range []struct {
		args, stdin, name, password, out string
	}{
		{"user add ann:pw:x", "", "ann", "pw:x", ""},
		{"user add ann --new-user-password=p", "asks nothing", "ann", "p", ""},
		{"user add ann:x --no-password", "asks nothing", "ann:x", "", ""},
		{"user add ann --interactive=false", "  first second\nthird\n", "ann", "first", ""},
		{"user add ann --interactive=false", "no end of line", "ann", "no", ""},
		{"user add ann", " p w \np w\n", "ann", "p w", "Password of ann: \nType password of ann again for confirmation: \n"},
		{"--user root user add ann", "new\nnew\nmine\n", "ann", "new", "Password of ann: \nType password of ann again for confirmation: \nPassword: \n"},
	} {
		f := startFake(t, false)
		status, out, diag := runProgram(append([]string{"--endpoints=" + f.addr}, strings.Fields(c.args)...), c.stdin, nil)
		if status != 0 || out != c.out+"User "+c.name+" created\n" {
			t.Errorf("%s: exit %d, %q, %q", c.args, status, out, diag)
		}
		if f.added.GetName() != c.name || f.added.GetPassword() != c.password || f.added.GetOptions().GetNoPassword() != (c.password == "") {
			t.Errorf("%s: sent %v", c.args, f.added)
		}
	}
}

func TestPermissionRanges(t *testing.T) {
	for args, want := range map[string][2]string{
		"key":            {"key", ""},
		"key end":        {"key", "end"},
		"key --prefix":   {"key", "kez"},
		"\xff --prefix":  {"\xff", "\x00"},
		"key --from-key": {"key", "\x00"},
		"'' --prefix":    {"\x00", "\x00"},
		"'' --from-key":  {"\x00", "\x00"},
		"'' end":         {"\x00", ""},
		"key ''":         {"key", ""},
	} {
		f := startFake(t, false)
		line := strings.Fields("--endpoints=" + f.addr + " role grant-permission app write " + args)
		for i := range line {
			line[i] = strings.ReplaceAll(line[i], "''", "")
		}
		if status, _, diag := runProgram(line, "", nil); status != 0 {
			t.Errorf("%s: exit %d, %q", args, status, diag)
			continue
		}
		if p := f.grant.Perm; string(p.Key) != want[0] || string(p.RangeEnd) != want[1] {
			t.Errorf("%s: sent %q to %q, want %q", args, p.Key, p.RangeEnd, want)
		}
	}
}
