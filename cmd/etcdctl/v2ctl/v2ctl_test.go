package v2ctl

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keelson/test/authority"
)

// execute runs a command line with an environment and gives what it printed.
func execute(env []string, args ...string) (status int, out, diag string) {
	var stdout, stderr bytes.Buffer
	p := Program{Args: args, Env: env, In: strings.NewReader(""), Out: &stdout, Diag: &stderr, Version: func() { stdout.WriteString("versions\n") }}
	return p.Run(), stdout.String(), stderr.String()
}

// An endpoint without a scheme is http, and flags count for more than the environment, whose variables have an order.
func TestEndpoints(t *testing.T) {
	f := startFake(t)
	bare := strings.TrimPrefix(f.URL, "http://")
	for _, x := range []struct {
		env  []string
		args []string
	}{
		{nil, []string{"--endpoints", bare}},
		{nil, []string{"--endpoints", "//" + bare}},
		{nil, []string{"--endpoints=http://" + bare}},
		{[]string{"ETCDCTL_ENDPOINTS=" + bare}, nil},
		{[]string{"ETCDCTL_ENDPOINT=" + bare}, nil},
		{[]string{"ETCDCTL_PEERS=" + bare}, nil},
		{[]string{"ETCDCTL_ENDPOINTS=http://127.0.0.1:0"}, []string{"--endpoints", bare}},
		{[]string{"ETCDCTL_ENDPOINTS=" + bare}, []string{"--endpoint", "127.0.0.1:0"}},
		{[]string{"ETCDCTL_PEERS=127.0.0.1:0", "ETCDCTL_ENDPOINT=" + bare}, nil},
	} {
		status, out, diag := execute(x.env, append(x.args, "get", "a")...)
		if status != 0 || out != "v\n" || diag != "" {
			t.Errorf("%v %v: status %d, %q, %q", x.env, x.args, status, out, diag)
		}
	}
	if status, _, diag := execute(nil, "--endpoints", "http://[", "get", "a"); status != statusError || diag == "" {
		t.Errorf("an endpoint that is none: status %d, %q", status, diag)
	}
}

// Endpoints of a domain are looked up, by the flag's two names or the environment, and those alone are used.
func TestDiscovery(t *testing.T) {
	f := startFake(t)
	for _, x := range []struct {
		env, args []string
		insecure  bool
	}{
		{nil, []string{"--discovery-srv", "example.com", "--insecure-discovery"}, true},
		{nil, []string{"-D", "example.com", "--insecure-discovery", "--endpoints=127.0.0.1:0"}, true},
		{[]string{"ETCDCTL_DISCOVERY_SRV=example.com"}, nil, false},
	} {
		var asked []any
		var stdout, stderr bytes.Buffer
		status := Program{
			Args: append(x.args, "get", "a"), Env: x.env, In: strings.NewReader(""), Out: &stdout, Diag: &stderr,
			Discover: func(_ context.Context, domain string, insecure bool) ([]string, error) {
				asked = append(asked, domain, insecure)
				return []string{f.URL}, nil
			},
		}.Run()
		if status != 0 || stdout.String() != "v\n" || !slices.Equal(asked, []any{"example.com", x.insecure}) {
			t.Errorf("%v %v: status %d, %q, %q, asked %v", x.env, x.args, status, stdout.String(), stderr.String(), asked)
		}
	}
	p := Program{Args: []string{"-D", "example.com", "get", "a"}, In: strings.NewReader(""), Out: new(bytes.Buffer), Diag: new(bytes.Buffer)}
	p.Discover = func(context.Context, string, bool) ([]string, error) { return nil, errors.New("no records") }
	if status := p.Run(); status != statusError {
		t.Errorf("without records: status %d", status)
	}
}

// What Debian's build of 3.4.23 gets wrong: the key stands before the "--" although no flag does.
func TestExecWatchKey(t *testing.T) {
	for _, x := range []struct {
		words   []string
		key     string
		command []string
	}{
		{[]string{"/a", "--", "echo", "-n"}, "/a", []string{"echo", "-n"}},
		{[]string{"--after-index", "7", "/a", "--", "echo"}, "/a", []string{"echo"}},
		{[]string{"-r", "/a", "--", "echo", "--", "x"}, "/a", []string{"echo", "--", "x"}},
		{[]string{"--", "echo", "/a"}, "/a", []string{"echo"}},
		{[]string{"echo", "x", "/a"}, "/a", []string{"echo", "x"}},
		{[]string{"/a", "--"}, "", nil},
		{[]string{"/a"}, "", nil},
	} {
		f := newFlags(execWatchVerb().flags)
		c := &call{words: x.words}
		if err := f.parse(&c.args, f.flagsFirst(x.words)); err != nil {
			t.Errorf("%q: %v", x.words, err)
			continue
		}
		key, command, err := c.keyAndCommand()
		if key != x.key || !slices.Equal(command, x.command) || (err != nil) != (x.key == "") {
			t.Errorf("%q: key %q, command %q, %v", x.words, key, command, err)
		}
	}
}

func TestExecWatchWithoutProgram(t *testing.T) {
	f := startFake(t)
	status, _, diag := execute([]string{"ETCDCTL_ENDPOINTS=" + f.URL}, "exec-watch", "a", "--", "nosuchprogram")
	if want := `exec: "nosuchprogram": executable file not found in $PATH`; status != statusError || diag != want {
		t.Errorf("status %d, %q; want %q", status, diag, want)
	}
}

// Every command has a help of its own, reached in three ways, and sends nothing for it.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"help"}, {"h"}, {"--help"}, {"-h"}} {
		status, out, diag := execute(nil, args...)
		if status != 0 || diag != "" {
			t.Errorf("%v: status %d, %q", args, status, diag)
		}
		for _, v := range verbs() {
			if !strings.Contains(out, "  "+v.name+" ") {
				t.Errorf("%v does not list %s", args, v.name)
			}
		}
	}
	var walk func(path []string, all []verb)
	walk = func(path []string, all []verb) {
		for _, v := range all {
			words := append(slices.Clone(path), v.name)
			_, want, _ := execute(nil, append(slices.Clone(words), "--help")...)
			_, byTopic, _ := execute(nil, append(append(slices.Clone(path), "help"), v.name)...)
			if !strings.HasPrefix(want, "etcdctl "+strings.Join(words, " ")+": "+v.short+"\n") || byTopic != want {
				t.Errorf("%v: --help prints\n%s\nhelp prints\n%s", words, want, byTopic)
			}
			f := newFlags(v.flags)
			for _, r := range f.rows {
				if r.text == "" || !strings.Contains(want, "-"+r.names[0]) {
					t.Errorf("%v does not tell of -%s:\n%s", words, r.names[0], want)
				}
			}
			walk(words, v.verbs)
		}
	}
	walk(nil, verbs())
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"--version", "-v"} {
		if status, out, diag := execute(nil, flag, "get"); status != 0 || out != "versions\n" || diag != "" {
			t.Errorf("%s: status %d, %q, %q", flag, status, out, diag)
		}
	}
}

// --debug tells which endpoints are used, as 3.4.23 does. (The requests themselves go to the process's own stderr.)
func TestDebug(t *testing.T) {
	f := startFake(t)
	status, out, diag := execute(nil, "--endpoints", f.URL, "--debug", "user", "list")
	want := "start to sync cluster using endpoints(" + f.URL + ")\ngot endpoints(" + f.URL + ") after sync\nCluster-Endpoints: " + f.URL + "\nCluster-Endpoints: " + f.URL + "\n"
	if status != 0 || out != "ann\nbob\n" || diag != want {
		t.Errorf("status %d, %q, %q; want %q", status, out, diag, want)
	}
}

// Files for TLS come from flags or the environment; a member that asks for certificates is shown one.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := authority.New(t, "ca")
	bundle := filepath.Join(dir, "ca.crt")
	authority.Bundle(t, bundle, ca)
	member, own := ca.Local(dir, "member"), ca.Local(dir, "client")
	f := &fake{}
	f.Server = httptest.NewUnstartedServer(f)
	pair, err := tls.LoadX509KeyPair(member.CertFile, member.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	f.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // it is refused on purpose
	f.StartTLS()
	t.Cleanup(f.Close)
	at := "ETCDCTL_ENDPOINTS=" + f.URL
	for _, x := range []struct {
		env, args []string
		status    int
		diag      string
	}{
		{[]string{at}, []string{"--ca-file", bundle, "--cert-file", own.CertFile, "--key-file", own.KeyFile}, 0, ""},
		{[]string{at, "ETCDCTL_CA_FILE=" + bundle, "ETCDCTL_CERT_FILE=" + own.CertFile, "ETCDCTL_KEY_FILE=" + own.KeyFile}, nil, 0, ""},
		{[]string{at}, []string{"--ca-file", bundle}, statusServerError, "certificate required"},
		{[]string{at}, []string{"--cert-file", own.CertFile, "--key-file", own.KeyFile}, statusServerError, "unknown authority"},
	} {
		status, out, diag := execute(x.env, append(x.args, "get", "a")...)
		if status != x.status || (out == "v\n") != (x.status == 0) || !strings.Contains(diag, x.diag) {
			t.Errorf("%v %v: status %d, %q, %q", x.env, x.args, status, out, diag)
		}
	}
	status, out, _ := execute([]string{at}, "--ca-file", bundle, "--cert-file", own.CertFile, "--key-file", own.KeyFile, "cluster-health")
	if status != statusNotHealthy || !strings.Contains(out, "member 8e9e05c52164694d is healthy: got healthy result from "+f.URL) {
		t.Errorf("cluster-health: status %d, %q", status, out)
	}
}
