package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// A discovery URL is the token of the cluster, letter by letter: identities are made of it on all members alike.
func TestDiscoveryURL(t *testing.T) {
	c, _, err := Parse([]string{"--discovery-proxy=127.0.0.1:3128"}, []string{"ETCD_DISCOVERY=https://user:secret@example.com:8087/v2/keys/x/"}, noFile)
	if err != nil {
		t.Fatal(err)
	}
	if c.Cluster.Token != "https://user:secret@example.com:8087/v2/keys/x/" || c.Cluster.Discovery.URL.Path != "/v2/keys/x/" || c.Cluster.Discovery.Proxy.String() != "http://127.0.0.1:3128" || !c.Cluster.Discovery.Discovers() {
		t.Errorf("%+v, token %s", c.Cluster.Discovery, c.Cluster.Token)
	}
	if mustParse(t).Cluster.Discovery.Discovers() {
		t.Error("a member without a word of discovery discovers")
	}
}

// Whoever reads an error about a URL is not told its password, also where the URL cannot be read.
func TestDiscoverySecret(t *testing.T) {
	for line, want := range map[string]string{
		"--discovery=ftp://user:secret@host/tok":                                 `--discovery is "ftp://user:xxxxx@host/tok"`,
		"--discovery=http://user:secret@host":                                    `--discovery is "http://user:xxxxx@host"`,
		"--discovery=http://user:secret/secret@host/tok":                         `--discovery is "http://xxxxx@host/tok": write`,
		"--discovery=http://user:secret%zz@host/tok":                             `--discovery is "http://xxxxx@host/tok": write`,
		"--discovery=http://host:port/tok":                                       `--discovery is "http://host:port/tok": invalid port ":port" after host`,
		"--discovery=http://x/y --discovery-proxy=user:secret/secret@host:3128":  `--discovery-proxy is "xxxxx@host:3128": write`,
		"--discovery=http://x/y --discovery-proxy=http://user:secret@":           `--discovery-proxy is "http://user:xxxxx@"`,
		"--discovery=http://x/y --discovery-proxy=ftp://user:secret@host:3128/x": `--discovery-proxy is "ftp://user:xxxxx@host:3128/x"`,
	} {
		if _, _, err := Parse(strings.Fields(line), nil, noFile); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, not %s", line, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "", "user:secret@host:3128": "user:xxxxx@host:3128", "user:se:cr/et@host:3128": "xxxxx@host:3128", "host:3128": "host:3128",
		"http://host/tok?a=b": "http://host/tok?a=b", "https://user@host/tok": "https://user@host/tok", "://user:secret@": "://user:xxxxx@",
	} {
		if got := Redacted(text); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
}

// What was found must have this member where it says that it is.
func TestCheckFound(t *testing.T) {
	c := mustParse(t, "--name=a", "--discovery=http://x/y")
	for text, ok := range map[string]bool{
		"http://localhost:2380": true, "http://localhost:2381": false,
	} {
		urls, err := parseURLs(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckFound(map[string]types.URLs{"a": urls}); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := c.CheckFound(map[string]types.URLs{"a": c.Cluster.AdvertisePeer, "b": {{Scheme: "unixs", Path: "/x"}}}); err == nil {
		t.Error("a member at unixs:// is taken")
	}
}

// Where a cluster keeps the token, that is this one's, and a user's password may come with the name.
func TestDiscoveryCluster(t *testing.T) {
	c := mustParse(t, "--discovery-token=tok", "--discovery-endpoints=https://b:2379,https://a:2379", "--discovery-user=root:a:b", "--discovery-cacert=/ca")
	d := c.Cluster.Discovery.Cluster
	if c.Cluster.Token != "tok" || len(d.Endpoints) != 2 || d.User != "root" || d.Password != "a:b" || d.DialTimeout != 2*time.Second ||
		d.RequestTimeout != 5*time.Second || !d.Plain || d.CAFile != "/ca" || !c.Cluster.Discovery.Discovers() {
		t.Errorf("%+v, token %s", d, c.Cluster.Token)
	}
	c, _, err := Parse([]string{"--discovery-token=t", "--discovery-endpoints=a:1", "--discovery-user=x:y"}, []string{"ETCD_DISCOVERY_PASSWORD=z"}, noFile)
	if err != nil || c.Cluster.Discovery.Cluster.User != "x:y" || c.Cluster.Discovery.Cluster.Password != "z" {
		t.Errorf("%+v, %v", c, err)
	}
}

const discoveryFile = `
discovery-config:
  token: tok
  client:
    endpoints: [https://b:2379, https://a:2379]
    dial-timeout: 3000000000
    request-timeout: 4s
    keepalive-time: 5000000000
    keepalive-timeout: 6500000000
    max-request-bytes: 77
    max-recv-bytes: 88
    secure:
      cert: /cert
      key: /key
      cacert: /ca
      server-name: registry
      insecure-transport: false
      insecure-skip-tls-verify: true
    auth:
      username: u
      password: p
`

// A YAML file has these settings in groups of their own, by etcd's names.
func TestDiscoveryGroup(t *testing.T) {
	read := func(text string) (DiscoveryCluster, error) {
		c, _, err := Parse([]string{"--config-file=f"}, nil, oneFile(text))
		if err != nil {
			return DiscoveryCluster{}, err
		}
		return c.Cluster.Discovery.Cluster, nil
	}
	want := DiscoveryCluster{
		Token: "tok", Endpoints: []string{"https://a:2379", "https://b:2379"}, DialTimeout: 3 * time.Second, RequestTimeout: 4 * time.Second,
		KeepAliveTime: 5 * time.Second, KeepAliveTimeout: 6500 * time.Millisecond, SendBytes: 77, ReceiveBytes: 88,
		DiscoveryTLS: DiscoveryTLS{CertFile: "/cert", KeyFile: "/key", CAFile: "/ca", ServerName: "registry", SkipVerify: true},
		User:         "u", Password: "p",
	}
	if got, err := read(discoveryFile); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, not %+v (%v)", got, want, err)
	}
	// What is not given keeps the defaults of the flags, also below a group that is left empty.
	want = mustParse(t, "--discovery-token=tok", "--discovery-endpoints=a:1").Cluster.Discovery.Cluster
	if got, err := read("discovery-config: {token: tok, client: {endpoints: ['a:1'], secure: , auth: }}\n"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, not %+v (%v)", got, want, err)
	}
	if got, err := read("discovery-config: {token: tok, client: {endpoints: ['a:1'], auth: {token: bearer}}}\n"); err != nil || got.Bearer != "bearer" {
		t.Errorf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"discovery-config: {foo: 1}\n":                               `unknown key "discovery-config.foo"`,
		"discovery-config: {client: {secure: {foo: 1}}}\n":           `unknown key "discovery-config.client.secure.foo"`,
		"discovery-config: {client: {password: p}}\n":                `did you mean discovery-config.client.auth.password?`,
		"discovery-config: x\n":                                      `unknown key "discovery-config"`,
		"discovery-config: {token: tok}\n":                           `both --discovery-token and --discovery-endpoints must be set`,
		"discovery-config: {client: {dial-timeout: -1}}\n":           `discovery-config.client.dial-timeout: must not be negative`,
		"discovery-config: {client: {max-recv-bytes: 1.5}}\n":        `whole number`,
		strings.Replace(discoveryFile, "bytes: 88", "bytes: 76", 1):  `max-request-bytes (77) must not be above max-recv-bytes (76)`,
		strings.Replace(discoveryFile, "password: p", "token: t", 1): `give one of them`,
		discoveryFile + "discovery: http://x/y\n":                    `Choose one of`,
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q", text, err, want)
		}
	}
}
