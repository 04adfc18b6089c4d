package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keelson/test/authority"
	"keelson/test/process"
)

// ctl runs etcdctl with the files that the members want, by the environment, as a person sets it.
func (c *mutual) ctl(t *testing.T, input string, args ...string) process.Outcome {
	t.Helper()
	return process.Tool(t, keelson.Path("etcdctl"), input, c.env(), args...)
}

func (c *mutual) env() []string {
	var urls []string
	for _, m := range c.all {
		urls = append(urls, m.ClientURL())
	}
	return append([]string{
		"ETCDCTL_ENDPOINTS=" + strings.Join(urls, ","), "ETCDCTL_CACERT=" + c.at("ca"), "ETCDCTL_CERT=" + c.client.CertFile, "ETCDCTL_KEY=" + c.client.KeyFile,
	}, process.CtlTimes()...)
}

// step is one command of a walk, and what it must end with and print.
type step struct {
	line, input string
	status      int
	want        string // somewhere in what is printed
}

func (c *mutual) walk(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		o := c.ctl(t, s.input, strings.Fields(s.line)...)
		if printed := o.Stdout + o.Stderr; o.Status != s.status || !strings.Contains(printed, s.want) {
			t.Errorf("etcdctl %s: status %d, want %d with %q:\n%s", s.line, o.Status, s.status, s.want, printed)
		}
	}
}

const (
	asRoot = "--user=root:secret "
	asAnn  = "--user=ann:hers "
	denied = "Error: etcdserver: permission denied\n"
)

// An operator gives a cluster users, on three members under mutual TLS: what each may do holds on all of them at once, for every
// kind of verb, until it is turned off again.
func TestUsersByCommand(t *testing.T) {
	t.Parallel()
	c := threeMutual(t, steady) // each step is made once
	c.walk(t, []step{
		{"auth enable", "", 1, "Error: etcdserver: root user does not exist\nHint: make it first: etcdctl user add root\n"},
		{"user add root", "secret\nsecret\n", 0, "Type password of root again for confirmation: \nUser root created\n"},
		{"auth enable", "", 0, "Authentication Enabled\n"},
		{"auth enable --user=root", "secret\n", 0, "Password: \nAuthentication Enabled\n"},
		{"put a b", "", 1, "Error: etcdserver: permission denied\n"}, // by the name in the certificate, which is no user yet
		{"get a --user=root:wrong", "", 2, "Error: etcdserver: authentication failed, invalid user ID or password\nHint: "},
		{asRoot + "role add app", "", 0, "Role app created\n"},
		{asRoot + "role grant-permission app readwrite /app/ --prefix", "", 0, "Role app updated\n"},
		{asRoot + "user add ann --interactive=false", "first\n", 0, "User ann created\n"},
		{asRoot + "user grant-role ann app", "", 0, "Role app is granted to user ann\n"},
		{"--user=ann:first put /app/x 1", "", 0, "OK\n"},
		{asRoot + "user passwd ann", "hers\nhers\n", 0, "Password updated\n"},
		{"--user=ann:first get /app/x", "", 2, "authentication failed"},
		{asAnn + "get /app/x", "", 0, "/app/x\n1\n"},
		{asAnn + "put /other 1", "", 1, denied},
		{asAnn + "get / --prefix", "", 1, denied},
		{asAnn + "txn", "\nput /app/x 2\nput /other 1\n\n\n", 1, denied},
		{asAnn + "member add x --peer-urls=http://127.0.0.1:1", "", 1, denied},
		{asAnn + "user get ann --detail", "", 0, "User: ann\n\nRole app\nKV Read:\n\t[/app/, /app0) (prefix /app/)\nKV Write:\n"},
		{asAnn + "lock /app/lock -- true", "", 0, ""},
		{asAnn + "lock /lock true", "", 1, denied},
		{asAnn + "--endpoints=" + c.all[1].ClientURL() + " snapshot save " + c.at("stolen"), "", 5, "permission denied"},
		{asRoot + "user add client --no-password", "", 0, "User client created\n"},
		{"get /app/x", "", 1, denied},
		{asRoot + "user grant-role client app", "", 0, "granted"},
		{"get /app/x", "", 0, "/app/x\n1\n"},
		{asAnn + "endpoint health --cluster", "", 0, "is healthy"},
		{asRoot + "endpoint status --cluster -w fields", "", 0, `"Version" : "3.7.3"`},
		{asRoot + "endpoint hashkv --cluster", "", 0, "https://"},
		{asRoot + "--endpoints=" + c.all[1].ClientURL() + " snapshot save " + c.at("backup"), "", 0, "Snapshot saved at "},
		{asRoot + "check datascale --load=s --prefix=/app/", "", 3, "has keys"},
		{asRoot + "user revoke-role ann app", "", 0, "Role app is revoked from user ann\n"},
		{asAnn + "get /app/x", "", 1, denied},
		{asRoot + "auth disable", "", 0, "Authentication Disabled\n"},
		{"get /app/x", "", 0, "/app/x\n1\n"},
		{"auth status", "", 0, "Authentication Status: false\nAuthRevision: "},
	})
}

// A mirror reads as a user of one cluster and writes as a user of another, which trust different authorities.
func TestMirrorBetweenUsers(t *testing.T) {
	t.Parallel()
	var both [2]*mutual
	for i := range both {
		c := &mutual{dir: t.TempDir(), ca: authority.New(t, fmt.Sprint("authority ", i))}
		c.member, c.client = c.ca.Local(c.dir, "member"), c.ca.Local(c.dir, "client")
		authority.Bundle(t, c.at("ca"), c.ca)
		c.ca.Revoke(c.at("crl"))
		c.all = []*process.Member{process.Single(t, keelson, "", c.flags()...)}
		process.Secure(c.all, authority.Client(&c.client, c.ca), false)
		c.all[0].Serve()
		c.walk(t, []step{
			{"put /a 1", "", 0, "OK\n"}, {"user add root:secret", "", 0, ""}, {"auth enable", "", 0, ""}, {asRoot + "role add m", "", 0, ""},
			{asRoot + "role grant-permission m readwrite / --prefix", "", 0, ""}, {asRoot + "user add ann:hers", "", 0, ""}, {asRoot + "user grant-role ann m", "", 0, ""},
		})
		both[i] = c
	}
	from, to := both[0], both[1]
	cmd := exec.CommandContext(t.Context(), keelson.Path("etcdctl"), strings.TrimSpace(asAnn), "make-mirror", "--prefix=/", "--dest-prefix=/copy/",
		"--dest-cacert="+to.at("ca"), "--dest-cert="+to.client.CertFile, "--dest-key="+to.client.KeyFile, "--dest-user=ann", "--dest-password=hers", to.all[0].ClientURL())
	cmd.Env = append(process.Environ(), from.env()...)
	told, err := os.Create(to.at("told"))
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	cmd.Stderr = told
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	holds := func(want string) {
		t.Helper()
		process.Until(t, "the copy", func() error {
			if o := to.ctl(t, "", strings.TrimSpace(asAnn), "get", "/copy", "--prefix"); o.Stdout != want {
				said, _ := os.ReadFile(told.Name()) // what is missing there is missing in the message
				return fmt.Errorf("%q, not %q; the mirror says %q", o.Stdout, want, said)
			}
			return nil
		})
	}
	holds("/copy/a\n1\n")
	from.walk(t, []step{{asAnn + "put /b 2", "", 0, "OK\n"}, {asAnn + "del /a", "", 0, "1\n"}})
	holds("/copy/b\n2\n")
}

// A token signed by somebody who has the key is as good as a login, on any member, until it is over; and one from another
// key is told apart from a time-out.
func TestTokenByCommand(t *testing.T) {
	plainOnly(t, "it makes a root user of its own")
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	authority.Replace(t, secret, []byte("a secret"))
	m := process.Single(t, keelson, "", "--auth-token=jwt,sign-method=HS256,priv-key="+secret).Serve()
	m.Ctl("user", "add", "root:pw")
	m.Ctl("auth", "enable")
	m.Ctl("--user=root:pw", "put", "a", "b")
	r, err := m.Client().Authenticate(t.Context(), "root", "pw")
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Ctl("--auth-jwt-token="+r.Token, "get", "a"); got != "a\nb\n" {
		t.Errorf("%q", got)
	}
	forged := r.Token[:strings.LastIndex(r.Token, ".")] + ".c2lnbmVk"
	if o := m.TryCtl("--auth-jwt-token="+forged, "get", "a"); o.Status != 1 || !strings.Contains(o.Stderr, "invalid auth token") {
		t.Errorf("a forged token: status %d, %s", o.Status, o.Stderr)
	}
}
