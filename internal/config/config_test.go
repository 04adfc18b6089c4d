package config

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func noFile(string) ([]byte, error) { return nil, fs.ErrNotExist }

func oneFile(text string) func(string) ([]byte, error) {
	return func(string) ([]byte, error) { return []byte(text), nil }
}

func mustParse(t *testing.T, args ...string) *Config {
	t.Helper()
	c, _, err := Parse(args, nil, noFile)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// flagTable reads the flags of etcd 3.7.3 and of older versions: section, name, default as its help prints it.
func flagTable(t *testing.T) [][3]string {
	t.Helper()
	data, err := os.ReadFile("testdata/etcd-flags.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][3]string
	for _, line := range strings.Split(strings.TrimRight(string(data), "\n"), "\n")[1:] {
		f := strings.Split(line, "\t")
		rows = append(rows, [3]string{f[0], f[1], f[2]})
	}
	return rows
}

// shownOtherwise holds the defaults that etcd's help leaves out or writes in another way.
var shownOtherwise = map[string]string{
	"data-dir": "", "memory-mlock": "false", "backend-batch-interval": "0s", "max-concurrent-streams": "4294967295",
	"enable-grpc-gateway": "true", "bootstrap-defrag-threshold-megabytes": "0", "compaction-sleep-interval": "0s",
	"downgrade-check-time": "5s", "snapshot-catchup-entries": "5000",
	"experimental-bootstrap-defrag-threshold-megabytes": "0", "experimental-compaction-sleep-interval": "0s",
	"experimental-downgrade-check-time": "5s", "experimental-memory-mlock": "false",
	"experimental-snapshot-catchup-entries": "5000", "experimental-stop-grpc-service-on-defrag": "false",
	"experimental-backend-bbolt-freelist-type": "map",
}

// ownFlags are Keelson's alone.
var ownFlags = []string{"max-cluster-version", "v2-prefix"}

func TestMaxClusterVersion(t *testing.T) {
	for text, good := range map[string]bool{"": true, "3.6": true, "3.7": true, "3.5": false, "3.8": false, "3.6.0": false, "x": false} {
		c, _, err := Parse([]string{"--max-cluster-version=" + text}, nil, noFile)
		if good != (err == nil) || good && c.Cluster.MaxVersion != text {
			t.Errorf("--max-cluster-version=%s: %v", text, err)
		}
	}
}

func TestEveryFlagOfEtcd(t *testing.T) {
	cat := newCatalog()
	want := mustParse(t)
	today := 0
	for _, row := range flagTable(t) {
		section, flag, byDefault := row[0], row[1], row[2]
		if other, ok := shownOtherwise[flag]; ok {
			byDefault = other
		}
		k, ok := cat.kind(flag)
		if !ok {
			t.Errorf("--%s is missing", flag)
			continue
		}
		if r, ok := cat.rows[flag]; ok {
			today++
			if r.Section != section && !strings.HasPrefix(section, "Features") && flag != "enable-v2" {
				t.Errorf("--%s is in section %s, not %s", flag, r.Section, section)
			}
			if r.Default != byDefault {
				t.Errorf("--%s: default %q, not %q", flag, r.Default, byDefault)
			}
			if r.Help == "" {
				t.Errorf("--%s has no help", flag)
			}
		} else if o := cat.olders[flag]; o.byDefault != byDefault {
			t.Errorf("--%s: default %q, not %q", flag, o.byDefault, byDefault)
		}
		if flag == "log-outputs" || flag == "initial-cluster" || k.equal == nil {
			continue
		}
		got, _, err := Parse([]string{"--" + flag + "=" + byDefault, "--advertise-client-urls=http://localhost:2379"}, nil, noFile)
		if err != nil {
			t.Errorf("--%s at its default: %v", flag, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("--%s=%s changes the configuration: %+v", flag, byDefault, got)
		}
	}
	if rows := len(Table()); today+len(ownFlags) != rows {
		t.Errorf("the table has %d rows, etcd %d flags and Keelson %d of its own", rows, today, len(ownFlags))
	}
	for _, flag := range ownFlags {
		if _, ok := cat.rows[flag]; !ok {
			t.Errorf("--%s is missing", flag)
		}
	}
}

func TestHelpHasEveryFlag(t *testing.T) {
	help := Help()
	for _, r := range Table() {
		if !strings.Contains(help, "\n  --"+r.Flag+" '") {
			t.Errorf("the help lacks --%s", r.Flag)
		}
	}
}

func TestDefaults(t *testing.T) {
	c := mustParse(t)
	for name, pair := range map[string][2]any{
		"data-dir":        {c.Member.DataDir, "default.etcd"},
		"heartbeat":       {c.Raft.Heartbeat, 100 * time.Millisecond},
		"election":        {c.ElectionTicks(), 10},
		"listen peer":     {c.Listen.Peer.String(), "http://localhost:2380"},
		"advertise":       {c.Cluster.AdvertiseClient.String(), "http://localhost:2379"},
		"no http urls":    {len(c.Listen.ClientHTTP), 0},
		"streams":         {c.Limits.Streams, ^uint32(0)},
		"request bytes":   {c.Limits.RequestBytes, uint(3 << 19)},
		"pre-vote":        {c.Raft.PreVote, true},
		"new":             {c.Cluster.Existing, false},
		"gates":           {len(c.Gates), 9},
		"fast keep-alive": {c.Gates["FastLeaseKeepAlive"], true},
		"unary":           {c.Limits.WarnUnary, 300 * time.Millisecond},
		"peer read":       {c.Listen.PeerRead, 5 * time.Second},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, not %v", name, pair[0], pair[1])
		}
	}
	founders, err := mustParse(t, "--name=abc").Founders()
	if err != nil || founders.String() != "abc=http://localhost:2380" {
		t.Errorf("founders of a lone member: %v %v", founders, err)
	}
}

// The line of a container that many guides give: single dashes, a value behind a space.
func TestContainerLine(t *testing.T) {
	c := mustParse(t, strings.Fields("-advertise-client-urls http://10.0.0.5:2379,http://10.0.0.5:4001 "+
		"-listen-client-urls http://0.0.0.0:2379,http://0.0.0.0:4001 -initial-advertise-peer-urls http://10.0.0.5:2380 "+
		"-listen-peer-urls http://0.0.0.0:2380 -initial-cluster-token etcd-cluster-1 -name etcd0 "+
		"-initial-cluster etcd0=http://10.0.0.5:2380,etcd1=http://10.0.0.6:2380 -initial-cluster-state new -pre-vote=false")...)
	founders, err := c.Founders()
	if err != nil || len(founders) != 2 {
		t.Fatalf("founders: %v %v", founders, err)
	}
	if c.Member.Name != "etcd0" || len(c.Listen.Client) != 2 || c.Raft.PreVote || c.Cluster.Token != "etcd-cluster-1" {
		t.Errorf("%+v", c)
	}
}

func TestRepeatedURL(t *testing.T) {
	c := mustParse(t, "--listen-client-urls=http://127.0.0.1:12379,http://127.0.0.1:12379", "--advertise-client-urls=http://127.0.0.1:12379")
	if len(c.Listen.Client) != 1 {
		t.Errorf("%v", c.Listen.Client)
	}
}

func TestUnixSockets(t *testing.T) {
	c := mustParse(t, "--listen-client-urls=unix:///tmp/a.sock,unix://b.sock", "--advertise-client-urls=unix:///tmp/a.sock")
	if a, b := socketPath(&c.Listen.Client[0]), socketPath(&c.Listen.Client[1]); a != "/tmp/a.sock" || b != "b.sock" {
		t.Errorf("%q %q", a, b)
	}
}

func TestPrecedence(t *testing.T) {
	env := []string{"ETCD_NAME=env", "ETCD_HEARTBEAT_INTERVAL=50", "ETCD_WAL_DIR=", "ETCD_PORT=tcp://1", "PATH=x", "ETCD_EXPERIMENTAL_MEMORY_MLOCK=true"}
	c, warnings, err := Parse([]string{"--name", "flag", "--experimental-watch-progress-notify-interval=5s"}, env, noFile)
	if err != nil {
		t.Fatal(err)
	}
	if c.Member.Name != "flag" || c.Raft.Heartbeat != 50*time.Millisecond || !c.Storage.Mlock || c.Limits.WatchProgress != 5*time.Second {
		t.Errorf("%+v", c)
	}
	all := strings.Join(warnings, "\n")
	for _, want := range []string{"ETCD_NAME is set too", "ETCD_PORT is no setting", "ETCD_EXPERIMENTAL_MEMORY_MLOCK is deprecated: use --memory-mlock", "--experimental-watch-progress-notify-interval is deprecated"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in\n%s", want, all)
		}
	}
	c = mustParse(t, "--watch-progress-notify-interval=7s", "--experimental-watch-progress-notify-interval=5s", "--log-level=warn", "--debug")
	if c.Limits.WatchProgress != 7*time.Second || c.Logging.Level != "warn" {
		t.Errorf("today's name must win: %+v", c)
	}
}

func TestGates(t *testing.T) {
	c, warnings, err := Parse([]string{"--feature-gates=AllAlpha=true,PriorityRequest=false", "--experimental-txn-mode-write-with-shared-buffer=false"}, nil, noFile)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Gates["InitialCorruptCheck"] || c.Gates["PriorityRequest"] || c.Gates["TxnModeWriteWithSharedBuffer"] || !c.Gates["FastLeaseKeepAlive"] {
		t.Errorf("%v", c.Gates)
	}
	if n := strings.Count(strings.Join(warnings, "\n"), "changes nothing"); n != 3 {
		t.Errorf("%d gates told: %v", n, warnings)
	}
}

const yamlFile = `
# a comment
name: 'm1'
data-dir:
snapshot-count: 5000
heartbeat-interval: 100
election-timeout: 2000
quota-backend-bytes: 8589934592
listen-peer-urls: http://127.0.0.1:2380
listen-client-urls: "http://127.0.0.1:2379,http://127.0.0.1:2379"
cors:
initial-cluster-state: 'new'
discovery:
discovery-fallback: 'exit'
watch-progress-notify-interval: 5000000000
grpc-keepalive-interval: 30m
pre-vote: false
enable-v2: false
proxy: off
proxy-failure-wait: 5000
client-transport-security:
  cert-file:
  client-cert-auth: false
peer-transport-security:
socket-options: {reuse-port: true}
self-signed-cert-validity: 1
log-outputs: [stderr, /tmp/x.log]
feature-gates: InitialCorruptCheck=true
force-new-cluster: false
auto-compaction-mode: revision
auto-compaction-retention: 1000
`

func TestYAMLFile(t *testing.T) {
	c, warnings, err := Parse([]string{"--config-file=f", "--name=ignored"}, []string{"ETCD_NAME=ignored"}, oneFile(yamlFile))
	if err != nil {
		t.Fatal(err)
	}
	if c.Member.Name != "m1" || c.Member.DataDir != "m1.etcd" || c.Raft.Election != 2*time.Second || c.Storage.QuotaBytes != 8<<30 ||
		c.Limits.WatchProgress != 5*time.Second || c.KeepAlive.Interval != 30*time.Minute || c.Raft.PreVote || !c.Listen.ReusePort ||
		c.Compaction.Revisions != 1000 || c.Compaction.Retention != 0 || len(c.Logging.Outputs) != 2 || !c.Gates["InitialCorruptCheck"] || len(c.Listen.Client) != 1 {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(strings.Join(warnings, "\n"), "flags beside --config-file are ignored") {
		t.Errorf("%v", warnings)
	}
	if c, _, err = Parse(nil, []string{"ETCD_CONFIG_FILE=f"}, oneFile("name: z\n")); err != nil || c.Member.Name != "z" {
		t.Errorf("by environment: %v", err)
	}
	if c, _, err = Parse([]string{"--config-file", "f"}, nil, oneFile("")); err != nil || c.Member.Name != "default" {
		t.Errorf("empty file: %v", err)
	}
}

func TestLinesFile(t *testing.T) {
	c, _, err := Parse([]string{"--config-file=f"}, nil, oneFile("# member\nETCD_NAME=\"m1\" # here\nexport ETCD_DATA_DIR='/var/lib/e d'\n\n"+
		"ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379\nETCD_ADVERTISE_CLIENT_URLS=http://127.0.0.1:2379 # c\nETCD_WAL_DIR=\"\"\nETCD_INITIAL_CLUSTER_TOKEN=\"a\\\"b\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Member.Name != "m1" || c.Member.DataDir != "/var/lib/e d" || c.Cluster.Token != `a"b` {
		t.Errorf("%+v", c)
	}
}

func TestBadFiles(t *testing.T) {
	for text, want := range map[string]string{
		"nope: 3\n":                           `unknown key "nope"`,
		"data-dirr: x\n":                      `did you mean data-dir?`,
		"name: a\nname: b\n":                  `already set`,
		"hello\n":                             `must be lines of "key: value"`,
		"name: [a\n":                          `neither YAML nor lines`,
		"ETCD_NAME=a\nname: b\n":              `line 2 is neither`,
		"ETCD_NAMEE=a\n":                      `unknown setting ETCD_NAMEE; did you mean name?`,
		"ETCD_NAME=\"a\n":                     `not closed`,
		"ETCD_NAME=\"a\" b\n":                 `follows the closing quote`,
		"heartbeat-interval: x\n":             `whole number`,
		"pre-vote: 3\n":                       `true or false`,
		"name: {a: b}\n":                      `unknown key "name.a"`,
		"log-outputs: [{a: b}]\n":             `no text`,
		"client-transport-security: {x: y}\n": `unknown key "client-transport-security.x"`,
		"client-transport-security: {client-cert-auth: 3}\n": `true or false`,
		"discovery-config: {endpoints: [a]}\n":               `unknown key "discovery-config.endpoints"; did you mean discovery-config.client.endpoints?`,
		"discovery-fallback: proxy\n":                        `must be one of exit`,
		"v2-prefix: /\n":                                     `must have a name in it`,
		"ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379\n":    `--advertise-client-urls is required`,
		"listen-client-urls: http://example.com:2379\n":      `expected IP`,
		"watch-progress-notify-interval: 1.5\n":              `whole nanoseconds`,
		"ETCD_CERT_FILE=/x\n":                                `--cert-file and --key-file must both be present`,
		"name: ''\nheartbeat-interval: 300\n":                `at least 5 times`,
		"client-transport-security: {allowed-cn: [a, b]}\n":  `unknown key`,
	} {
		c, _, err := Parse([]string{"--config-file=f"}, nil, oneFile(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q (%+v)", text, err, want, c)
		}
	}
	if _, _, err := Parse([]string{"--config-file=f"}, nil, noFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// refusals gives command lines, and what their errors say.
func refusals() map[string]string {
	client := " --advertise-client-urls=http://127.0.0.1:2379"
	return map[string]string{
		"--nope":                   "usage: unknown flag --nope; etcd --help lists all",
		"--data-di=x":              "did you mean --data-dir?",
		"foo":                      `"foo" is not a valid flag`,
		"gateway start":            `"gateway" is not a valid flag`,
		"--pre-vote false":         `"false" is not a valid flag`,
		"--data-dir":               "usage: flag needs an argument: -data-dir",
		"--heartbeat-interval=x":   "usage: ",
		"--heartbeat-interval=0":   "must be >0",
		"--election-timeout=0":     "must be >0",
		"--heartbeat-interval=300": "at least 5 times",
		"--election-timeout=60000": "too long",
		"--name=":                  "--name is empty",
		"--listen-peer-urls=":      "--listen-peer-urls is empty",
		"--listen-client-urls=http://127.0.0.1:2379":                                   "--advertise-client-urls is required",
		"--listen-client-urls=http://127.0.0.1:2379/v2" + client:                       "with no path: write http://127.0.0.1:2379",
		"--listen-client-urls=127.0.0.1:2379" + client:                                 "has no scheme",
		"--listen-client-urls=localhost:2379" + client:                                 "scheme",
		"--listen-client-urls=http://127.0.0.1" + client:                               "has no port",
		"--listen-client-urls=http://127.0.0.1:70000" + client:                         "65535",
		"--listen-client-urls=http://example.com:2379" + client:                        "expected IP in URL for binding (http://example.com:2379)",
		"--listen-client-urls=http://:2379" + client:                                   "expected IP",
		"--listen-client-urls=https://127.0.0.1:2379" + client:                         "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:2379 with HTTPS scheme",
		"--listen-client-urls=unixs:///tmp/x" + client:                                 "or use unix://",
		"--listen-client-urls=unix://" + client:                                        "has no path",
		"--listen-metrics-urls=http://example.com:1":                                   "--listen-metrics-urls takes an IP",
		"--advertise-client-urls=http://:2379":                                         "has no host",
		"--initial-advertise-peer-urls=unixs:///tmp/x":                                 "members call each other at https://",
		"--initial-cluster-state=joined":                                               "must be new or existing",
		"--metrics=all":                                                                "must be basic or extensive",
		"--proxy=on":                                                                   "must be one of off",
		"--proxy=readonly":                                                             "must be one of off",
		"--discovery-fallback=proxy":                                                   "must be one of exit",
		"--logger=capnslog":                                                            "must be one of zap",
		"--log-level=loud":                                                             "must be one of debug",
		"--log-format=xml":                                                             "must be one of json",
		"--log-outputs=":                                                               "--log-outputs is empty",
		"--log-outputs=default,stderr":                                                 "can only be alone",
		"--enable-log-rotation":                                                        "name exactly one",
		"--enable-log-rotation --log-outputs=/a,/b":                                    "name exactly one",
		"--backend-bbolt-freelist-type=tree":                                           "map, array",
		"--feature-gates=Nope=true":                                                    "unknown feature gate",
		"--feature-gates=LeaseCheckpoint":                                              "has no value",
		"--feature-gates=LeaseCheckpoint=maybe":                                        "true or false",
		"--feature-gates=LeaseCheckpointPersist=true":                                  "needs LeaseCheckpoint",
		"--grpc-keepalive-interval=-1s":                                                "negative",
		"--grpc-keepalive-interval=10":                                                 "with its unit",
		"--max-concurrent-streams=4294967296":                                          "out of range",
		"--auto-compaction-retention=-1":                                               "number or a duration",
		"--auto-compaction-retention=-5m":                                              "number or a duration",
		"--auto-compaction-retention=9ms":                                              "too short",
		"--auto-compaction-retention=2562048":                                          "too long",
		"--auto-compaction-mode=revision --auto-compaction-retention=5m":               "whole number such as 1000",
		"--compact-hash-check-time=0s":                                                 "must be >0 (set to 0s)",
		"--auto-compaction-retention=x":                                                "number or a duration",
		"--auto-compaction-mode=x":                                                     "periodic or revision",
		"--auth-token-ttl=9999999999999":                                               "more than",
		"--auth-token-ttl=5m":                                                          "whole number",
		"--experimental-enable-v2v3=/x":                                                "v2",
		"--log-package-levels=raft=DEBUG":                                              "log level",
		"--election-timeout=99999999999999":                                            "usage",
		"--discovery=https://x":                                                        "give the whole URL of a token",
		"--discovery=ftp://x/y":                                                        "give the whole URL of a token",
		"--discovery=http://x/y --discovery-proxy=ftp://x":                             "give the URL of an HTTP proxy",
		"--discovery=http://x/y --initial-cluster=default=http://x:1":                  `Choose one of "initial-cluster", "discovery"`,
		"--discovery-token=x":                                                          "both --discovery-token and --discovery-endpoints must be set",
		"--discovery-endpoints=a:1":                                                    "both --discovery-token and --discovery-endpoints must be set",
		"--discovery-token=x --discovery-endpoints=a:1,,b:2":                           "must not contain empty endpoints",
		"--discovery-token=x --discovery-endpoints=a:1 --discovery-user=u":             "set ETCD_DISCOVERY_PASSWORD",
		"--discovery-token=x --discovery-endpoints=a:1 --discovery-key=k":              "must both be given",
		"--discovery-token=x --discovery-endpoints=a:1 --discovery-request-timeout=0s": "no request could be answered",
		"--discovery-endpoints=a:1 --discovery=http://x/y":                             "Choose one of",
		"--discovery-srv-name=x":                                                       "name the domain too",
		"--discovery-srv=x --discovery=http://x/y":                                     "Choose one of",
	}
}

func TestRefusals(t *testing.T) {
	for line, want := range refusals() {
		c, _, err := Parse(strings.Fields(line), nil, noFile)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q (%v)", line, err, want, c != nil)
		}
		if usage := strings.HasPrefix(want, "usage"); usage && !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v does not wrap ErrUsage", line, err)
		}
	}
	if _, _, err := Parse(nil, []string{"ETCD_DISTRIBUTED_TRACING_INSTANCE_ID=x"}, noFile); err == nil || !strings.HasPrefix(err.Error(), "ETCD_DISTRIBUTED_TRACING_INSTANCE_ID is set, but distributed tracing") {
		t.Errorf("by environment: %v", err)
	}
}

// Every setting that waits for its feature is refused by its name as soon as it differs from its default.
func TestLaterSettingsAreRefused(t *testing.T) {
	for _, r := range Table() {
		if r.Later == "" {
			continue
		}
		text := ""
		for _, try := range []string{"true", "false", "77", "77s", "x"} {
			if r.set(&Config{}, try) == nil && !r.equal(try, r.Default) {
				text = try
			}
		}
		if _, _, err := Parse([]string{"--" + r.Flag + "=" + text}, nil, noFile); err == nil || !strings.Contains(err.Error(), "--"+r.Flag+" is set, but "+r.Later) {
			t.Errorf("--%s=%s: %v", r.Flag, text, err)
		}
		for _, from := range []string{r.Flag, r.Key} {
			if from == "" {
				continue
			}
			if _, _, err := Parse([]string{"--config-file=f"}, nil, oneFile(yamlLine(from, text))); err == nil || !strings.Contains(err.Error(), from+" is set, but "+r.Later) {
				t.Errorf("%s in a file: %v", from, err)
			}
		}
	}
}

func yamlLine(key, text string) string {
	group, inner, nested := strings.Cut(key, ".")
	if nested {
		return group + ":\n  " + inner + ": '" + text + "'\n"
	}
	return key + ": '" + text + "'\n"
}

func TestFounders(t *testing.T) {
	peer := " --initial-advertise-peer-urls=http://127.0.0.1:2380"
	for line, want := range map[string]string{
		"--name=machine-0 --initial-cluster=etcd0=http://127.0.0.1:2380,etcd1=http://127.0.0.1:22380" + peer: `local name "machine-0" in the initial cluster configuration: --initial-cluster names etcd0, etcd1`,
		"--name=a --initial-cluster=a=http://127.0.0.1:2381" + peer:                                          "make the two the same",
		"--name=a --initial-cluster=a=http://127.0.0.1:2380,b=http://127.0.0.1:2380" + peer:                  "duplicate url http://127.0.0.1:2380 (members a and b)",
		"--name=a --initial-cluster=a=http://127.0.0.1:2380,b=unixs:///tmp/x" + peer:                         "members call each other at https://",
		"--name=a --initial-cluster=a=http://127.0.0.1:2380,b" + peer:                                        "write NAME=URL",
		"--name=a --initial-cluster=a=http://127.0.0.1:2380,b=http://x:1/p" + peer:                           "no path",
		"--name=a --initial-cluster=a=http://127.0.0.1:2380,b=" + peer:                                       "is empty",
	} {
		if _, err := mustParse(t, strings.Fields(line)...).Founders(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", line, err, want)
		}
	}
	c := mustParse(t, "--name=a", "--initial-cluster=a=http://localhost:2380,a=http://h:1", "--initial-advertise-peer-urls=http://127.0.0.1:2380,http://h:1")
	if _, err := c.Founders(); err == nil {
		t.Error("two texts are the same without a resolver")
	}
	c.Cluster.Resolve = func(string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	if m, err := c.Founders(); err != nil || len(m["a"]) != 2 {
		t.Errorf("resolved: %v %v", m, err)
	}
}

func TestAdvertiseHost(t *testing.T) {
	c := mustParse(t, "--name=a", "--listen-peer-urls=http://0.0.0.0:4444")
	if !c.AdvertiseHost("10.1.2.3") || c.Cluster.AdvertisePeer.String() != "http://10.1.2.3:4444" {
		t.Errorf("%v", c.Cluster.AdvertisePeer)
	}
	if mustParse(t).AdvertiseHost("10.1.2.3") {
		t.Error("a member that listens on localhost advertises another host")
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, line := range []string{"-h", "--help", "-help"} {
		if _, _, err := Parse([]string{line}, nil, noFile); !errors.Is(err, ErrHelp) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, _, err := Parse([]string{"--version"}, nil, noFile); !errors.Is(err, ErrVersion) {
		t.Errorf("--version: %v", err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(yamlFile)
	f.Add("ETCD_NAME=\"a\\\"b\" # c\nETCD_WAL_DIR='x'\n")
	f.Add("a: &x [*x]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := Parse([]string{"--config-file=f"}, nil, oneFile(text))
		if (c == nil) == (err == nil) {
			t.Errorf("configuration %v, error %v", c, err)
		}
	})
}

// A bare number of the retention counts hours or revisions, as the mode says; a unit makes it a time.
func TestRetention(t *testing.T) {
	for line, want := range map[string]Compaction{
		"":                                  {},
		"--auto-compaction-retention=":      {},
		"--auto-compaction-retention=0h":    {},
		"--auto-compaction-retention=1":     {Retention: time.Hour},
		"--auto-compaction-retention=90s":   {Retention: 90 * time.Second},
		"--auto-compaction-retention=1h30m": {Retention: 90 * time.Minute},
		"--auto-compaction-mode=revision":   {},
		"--auto-compaction-mode=revision --auto-compaction-retention=1000": {Revisions: 1000},
		"--auto-compaction-retention=7 --auto-compaction-mode=revision":    {Revisions: 7},
	} {
		got := mustParse(t, strings.Fields(line)...).Compaction
		if got.Retention != want.Retention || got.Revisions != want.Revisions {
			t.Errorf("%s: %v, %d revisions", line, got.Retention, got.Revisions)
		}
	}
}
