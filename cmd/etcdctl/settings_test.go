package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestEnvironment(t *testing.T) {
	f := startFake(t, false)
	for _, c := range []struct {
		name   string
		args   string
		env    []string
		status int
		out    string // prefix
		diag   string // somewhere
	}{
		{"endpoints and format", "get none", []string{"ETCDCTL_ENDPOINTS=http://" + f.addr, "ETCDCTL_WRITE_OUT=fields"}, 0, `"ClusterID" : `, ""},
		{"a flag wins", "get none -w json", []string{"ETCDCTL_ENDPOINTS=" + f.addr, "ETCDCTL_WRITE_OUT=fields"}, 0, `{"header"`, ""},
		{"spaces in a list", "get none -w json", []string{"ETCDCTL_ENDPOINTS=" + f.addr + ", " + f.addr}, 0, `{"header"`, ""},
		{"hex", "member list -w fields", []string{"ETCDCTL_ENDPOINTS=" + f.addr, "ETCDCTL_HEX=true"}, 0, `"ClusterID" : cdf818194e3a8c32`, ""},
		{"cluster", "endpoint hashkv", []string{"ETCDCTL_ENDPOINTS=" + f.addr, "ETCDCTL_CLUSTER=1"}, 0, "http://" + f.addr + ", 3735928559, 42", ""},
		{"API 3", "version", []string{"ETCDCTL_API=3"}, 0, "etcdctl version: 3.7.3\nAPI version: 3.7\nKeelson 0.1.0\n", ""},
		{"API 2", "--version", []string{"ETCDCTL_API=2"}, 0, "etcdctl version: 3.7.3\nAPI version: 2\nKeelson 0.1.0\n", ""},
		{"API 1", "version", []string{"ETCDCTL_API=1"}, statusError, "", "unsupported API version 1"},
		{"a value that is none", "get a", []string{"ETCDCTL_DIAL_TIMEOUT=soon"}, statusBadArgs, "", `ETCDCTL_DIAL_TIMEOUT="soon"`},
		{"an unknown name", "get none -w json", []string{"ETCDCTL_ENDPOINTS=" + f.addr, "ETCDCTL_ENDPOINT=x"}, 0, "{", "Warning: ETCDCTL_ENDPOINT is no setting"},
		{"user and password", "get none -w json", []string{"ETCDCTL_ENDPOINTS=" + f.addr, "ETCDCTL_USER=root", "ETCDCTL_PASSWORD=no"}, statusBadConnection, "", "authentication failed"},
		{"user with password", "get none -w json", []string{"ETCDCTL_ENDPOINTS=" + f.addr, "ETCDCTL_USER=root:pw"}, 0, "{", ""},
		{"a certificate without a key", "get none", []string{"ETCDCTL_CERT=x"}, statusBadArgs, "", "KeyFile and CertFile must both be present"},
	} {
		status, out, diag := runProgram(strings.Fields(c.args), "", c.env)
		if status != c.status || !strings.HasPrefix(out, c.out) || !strings.Contains(diag, c.diag) {
			t.Errorf("%s: exit %d, %q, %q", c.name, status, out, diag)
		}
	}
}

// What --debug prints of the settings may be sent to somebody else.
func TestSecretsAreNotShown(t *testing.T) {
	fs := pflag.NewFlagSet("global", pflag.ContinueOnError)
	new(settings).bind(fs)
	if err := fs.Parse([]string{"--user=root:hush", "--password=hush", "--auth-jwt-token=hush", "--cert=c"}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	showSettings(&b, fs)
	if s := b.String(); strings.Contains(s, "hush") || !strings.Contains(s, "ETCDCTL_USER=(not shown)\n") || !strings.Contains(s, "ETCDCTL_CERT=c\n") {
		t.Error(s)
	}
}

func TestMigrateArguments(t *testing.T) {
	for args, want := range map[string]string{
		"migrate": "migrate needs --data-dir", "migrate --data-dir=d more": "takes no arguments",
		"migrate --endpoints=h:1 --data-dir=" + t.TempDir(): "holds no member", "migrate --data-dir=" + t.TempDir() + " --wal-dir=w --no-ttl": "holds no member",
	} {
		status, out, diag := runProgram(strings.Fields(args), "", nil)
		if status == 0 || strings.Contains(out, "finished") || !strings.Contains(diag, want) {
			t.Errorf("%s: exit %d, %q, %q", args, status, out, diag)
		}
	}
}

// Every command of the help has a group, a short and a long text, and no line is wider than a wide terminal.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command, path string)
	walk = func(c *cobra.Command, path string) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		if c.Short == "" || c.Long == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short %q, long %q", path, c.Short, c.Long)
		}
		for line := range strings.Lines(c.Long) {
			if len(line) > 125 {
				t.Errorf("%s: a line of %d bytes: %s", path, len(line), line)
			}
		}
		for _, sub := range c.Commands() {
			if !c.HasParent() && sub.GroupID == "" && !sub.Hidden {
				t.Errorf("%s has no group", sub.Name())
			}
			walk(sub, path+" "+sub.Name())
		}
	}
	walk(quietApp().root(), "etcdctl")
	status, out, _ := runProgram(nil, "", nil)
	for _, want := range []string{"Locks and elections", "Users and roles", "endpoint health --cluster", "migrate", "snapshot"} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("the help has no %q", want)
		}
	}
	if _, out, _ := runProgram([]string{"options"}, "", nil); !strings.Contains(out, "--dial-timeout duration") || strings.Contains(out, "not in this version") {
		t.Errorf("options: %s", out)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if status, out, diag := runProgram([]string{"completion", shell}, "", nil); status != 0 || !strings.Contains(out, "etcdctl") {
			t.Errorf("completion %s: exit %d, %s", shell, status, diag)
		}
	}
}
