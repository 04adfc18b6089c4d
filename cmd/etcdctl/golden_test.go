package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var record = flag.String("record", "", "path of etcdctl 3.7.3: write testdata/*.golden from what it prints")

// A golden case is one command line, run with each format. "|" ends the arguments; what follows is stdin.
func goldenCases() []string {
	return []string{
		`put a b`, `put a b --prev-kv`, `put a b --prev-kv --hex`, `put a|value from stdin`,
		`get key`, `get key --hex`, `get none`, `get a z --keys-only`, `get key --stream`, `get key --stream --hex`, `get old --rev 2`,
		`get key --count-only`, `get key --print-value-only`, `get key --print-value-only --hex`,
		`del a`, `del a --prefix --prev-kv`, `del a --prefix --prev-kv --hex`, `del a b --range`,
		"txn|val(\"a\") = \"1\"\n\nget a\nput b 'c d' --prev-kv\ndel c --prev-kv\n\n\n",
		"txn --hex|\nget a\nput b \"c d\"\ndel c\n\n\n",
		"txn|ver(\"a\") > \"1\"\nmod(\"b\") != \"7\"\n\n\nget a\n\n",
		`watch key`, `watch key --hex`,
		`lease grant 300`, `lease grant 300 --hex`, `lease revoke 7a5b000000c0ffee`,
		`lease timetolive 7a5b000000c0ffee`, `lease timetolive 7a5b000000c0ffee --keys`, `lease timetolive 7a5b000000c0ffee --keys --hex`, `lease timetolive 1`,
		`lease list`, `lease list --hex`, `lease keep-alive 7a5b000000c0ffee --once`, `lease keep-alive 7a5b000000c0ffee --once --hex`, `lease keep-alive 1 --once`, `lease keep-alive 1`,
		`compaction 30`, `compaction 30 --physical`,
		`member list`, `member list --hex`,
		`member add new --peer-urls=http://10.0.0.9:2380`, `member add new --peer-urls=http://10.0.0.9:2380 --hex`,
		`member add new --learner --peer-urls=http://10.0.0.9:2380,http://10.0.0.10:2380`, `member add new --peer-urls=http://short:1`,
		`member remove 91bc3c398fb3c146`, `member remove 91bc3c398fb3c146 --hex`, `member remove abc`,
		`member update 91bc3c398fb3c146 --peer-urls=http://10.0.0.9:2380,http://10.0.0.10:2380`, `member update abc --peer-urls=http://10.0.0.9:2380 --hex`,
		`member promote fd422379fda50e4`, `member promote fd422379fda50e4 --hex`, `move-leader 91bc3c398fb3c146`, `move-leader abc --hex`,
		`alarm list`, `alarm list --hex`, `alarm disarm`, `alarm disarm --hex`,
		`endpoint status`, `endpoint status --hex`, `endpoint status --cluster`, `endpoint hashkv`, `endpoint hashkv --hex`, `endpoint hashkv --rev 99`, `endpoint hashkv --rev 40 --cluster`,
		`endpoint health`, `defrag`, `defrag --cluster`, `defrag --cluster x y`,
		`auth enable`, `auth disable`, `auth status`, `auth status --hex`,
		`user add ann:pw`, `user add ann --new-user-password=pw`, `user add ann:pw --no-password`, `user add ann --interactive=false|pw more`, "user add ann|pw\npw\n",
		`user delete ann`, `user get ann`, `user get ann --detail`, `user get ann --hex`, `user get bare`, `user get bare --detail`, `user get nobody`, `user get odd --detail`,
		`user list`, `user list --hex`, `user passwd ann --interactive=false|pw`, "user passwd ann| pw \n pw\n",
		`user grant-role ann app`, `user revoke-role ann app`,
		`role add app`, `role add app --hex`, `role delete app`, `role get app`, `role get app --hex`, `role get root`, `role get empty`, `role list`, `role list --hex`,
		`role grant-permission app read key`, `role grant-permission app WRITE key end`, `role grant-permission app readwrite key --prefix`, `role grant-permission app read '' --prefix`,
		`role grant-permission app read '' --from-key`, `role grant-permission app read '' end`, `role grant-permission app read key end extra`,
		`role revoke-permission app key`, `role revoke-permission app key end`, `role revoke-permission app key --prefix`, `role revoke-permission app key --from-key`,
		`role revoke-permission app '' --prefix`, `role revoke-permission app ''`,
		`--user=root:pw get none`, `--user=root --password=pw get none`, `--user=root:pw:w get none`, `--user=root get none|pw`, `--user=root:no get none`, `--user=no: get none`,
		`--auth-jwt-token=abc get none`, `--auth-jwt-token=abc --user=root:no get none`, `--insecure-transport=true get none`,
		`downgrade validate 3.6`, `downgrade enable 3.6.0`, `downgrade enable 3.6 --hex`, `downgrade cancel`, `downgrade cancel x`,
	}
}

// Command lines that fail, nearly all before anything is sent, with texts that scripts match.
func refusedCases() []string {
	return []string{
		`put full x`, `put`, `put a b --ignore-value`, `put a b --lease zz`, `put a`,
		`get`, `get a --prefix --from-key`, `get a --keys-only --count-only`, `get a b --prefix`, `get a --consistency x`,
		`get a --order UP`, `get a --sort-by COLOR`, `get a --min-mod-rev 5 --max-mod-rev 3`, `get a --min-create-rev 5 --max-create-rev 3`, `get a -w yaml`,
		`del`, `del a b c`, `del a --prefix --from-key`, `del a b --from-key`,
		`txn x`, `txn`, "txn|val(\"a\"\n", "txn|nothing\n", "txn|colour(\"a\") = \"1\"\n", "txn|ver(\"a\") > \"x\"\n", "txn|\nput\n", "txn|\nmove a b\n", "txn|\nput a\n", "txn|\nget a --prefix --from-key\n",
		`watch`, `watch --`, `watch a --`, `watch a b --prefix`, `watch -i`, "watch -i|nonsense\n", "watch -i|watch\n", "watch -i|\n", "watch -i|watch a --\n", "watch -i|watch --bogus\n",
		`lease grant`, `lease grant x`, `lease revoke`, `lease revoke xyz`, `lease timetolive`, `lease timetolive xyz`, `lease keep-alive`, `lease keep-alive xyz`,
		`lock`, `elect`, `elect a`, `elect a b -l`, `elect a b c`,
		`member add`, `member add a b`, `member add a http://b:1 HTTP://c:1`, `member add a`, `member add a --peer-urls=nonsense`, `member add a --peer-urls=http://taken:1`,
		`member add a --peer-urls=http://few:1`, `member remove`, `member remove a b`, `member remove xyz`, `member remove 1`, `member remove 12345678901234567`,
		`member update`, `member update xyz`, `member update abc`, `member promote`, `member promote xyz`, `member promote 1`,
		`move-leader`, `move-leader a b`, `move-leader xyz`, `move-leader 1`,
		`compaction`, `compaction x`, `alarm list x`, `alarm disarm x`, `nosuch`,
		`downgrade validate`, `downgrade validate 3.6 x`, `downgrade validate nonsense`, `downgrade enable`, `downgrade enable a b`,
		`auth enable x`, `auth disable x`, `auth status x`, `--user=root:strange auth enable`,
		`user add`, `user add a b`, `user add taken:pw`, "--user=root user add ann|pw\npw\npw\n", `user delete nobody`, `user add :pw`, "user add ann|\n", "user add ann|a\nb\n", `user add ann`, `user add ann --interactive=false`,
		`user delete`, `user get`, `user get a b`, `user list x`, `user passwd`, "user passwd ann|a\nb\n", `user grant-role a`, `user revoke-role a`, `user grant-role nobody app`,
		`role add`, `role delete`, `role get`, `role get a b`, `role list x`, `role get nothing`, `role grant-permission app read`, `role grant-permission app take key`,
		`role grant-permission app read key end --prefix`, `role grant-permission app read key end --from-key`, `role grant-permission app read key --prefix --from-key`,
		`role grant-permission app read '' --prefix --from-key`, `role revoke-permission app`, `role revoke-permission app key end --prefix --from-key`, `role revoke-permission nothing key`,
		`--cert= get none`, `--key= get none`, `--cacert= get none`, `--cert=x get none`, `--key=x get none`, `--cert=x --key=x get none`, `--cacert=x get none`,
		`--cert=x --endpoints=http://127.0.0.1:1 get none`, `make-mirror x --dest-cert=x`, `make-mirror x --dest-cert=x --dest-key=x`, "--user=root make-mirror x --dest-user=me --dest-key=x|one\ntwo\n",
		`check perf`, `check perf --load q`, `check datascale`, `check datascale --load q`,
		`make-mirror`, `make-mirror a b`, `make-mirror x --no-dest-prefix --dest-prefix y`,
	}
}

func TestGolden(t *testing.T) {
	healthy, ill := startFake(t, false), startFake(t, true)
	for _, format := range []string{"simple", "fields", "json", "protobuf", "table"} {
		t.Run(format, func(t *testing.T) {
			var b bytes.Buffer
			for _, c := range goldenCases() {
				f := healthy
				if strings.HasPrefix(c, "alarm") {
					f = ill
				}
				runCase(&b, f.addr, c, "-w", format)
				if strings.HasPrefix(c, "alarm") || c == "endpoint health" || c == "defrag" {
					runCase(&b, healthy.addr, c, "-w", format)
					runCase(&b, ill.addr, c, "-w", format)
				}
			}
			compare(t, format, b.String())
		})
	}
	t.Run("refused", func(t *testing.T) {
		var b bytes.Buffer
		for _, c := range refusedCases() {
			runCase(&b, healthy.addr, c)
		}
		compare(t, "refused", b.String())
	})
}

// runCase runs one command line and writes down what it printed, with what differs from run to run made equal.
func runCase(b *bytes.Buffer, addr, line string, more ...string) {
	line, stdin, _ := strings.Cut(line, "|")
	args := append([]string{"--endpoints=" + addr, "--command-timeout=1m", "--dial-timeout=1m"}, strings.Fields(line)...)
	args = append(args, more...)
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "''", "")
	}
	status, out, diag := runProgram(args, stdin, nil)
	fmt.Fprintf(b, "==== %s %q\nexit %d\n", line, stdin, status)
	if len(more) == 2 && more[1] == "protobuf" && !strings.HasPrefix(line, "compaction") {
		fmt.Fprintf(b, "%q\n", equalize(out, addr, line))
	} else {
		b.WriteString(equalize(out, addr, line))
	}
	for l := range strings.Lines(diag) {
		if l != "\n" && !strings.HasPrefix(l, `{"level"`) && !strings.HasPrefix(l, "stty: ") && !strings.HasPrefix(l, "Hint: ") && !strings.HasPrefix(l, "      ") {
			b.WriteString("stderr: " + equalize(l, addr, line))
		}
	}
}

func runProgram(args []string, stdin string, env []string) (status int, out, diag string) {
	var stdout, stderr bytes.Buffer
	if *record == "" {
		a := &app{args: args, env: env, in: strings.NewReader(stdin), out: &stdout, diag: &stderr, wait: func(time.Duration) {}}
		status = a.run()
		return status, stdout.String(), stderr.String()
	}
	cmd := exec.Command(*record, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, strings.NewReader(stdin), &stdout, &stderr
	cmd.Run()
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

var (
	tookPattern   = regexp.MustCompile(`\d+(\.\d+)?(ms|µs|s)\b`)
	ruledPattern  = regexp.MustCompile(`─+`)
	spacesPattern = regexp.MustCompile(` +`)
	marshalled    = regexp.MustCompile(`(marshal unsupported for type \S+) \(.*`)
)

// equalize hides the port of the fake (always five digits wide) and how long a health check or a defragmentation took.
func equalize(s, addr, line string) string {
	s = strings.ReplaceAll(s, addr, "127.0.0.1:PORT.")
	s = marshalled.ReplaceAllString(s, "$1")
	if strings.HasPrefix(line, "endpoint health") || strings.HasPrefix(line, "defrag") {
		s = tookPattern.ReplaceAllString(s, "TOOK")
		s = spacesPattern.ReplaceAllString(ruledPattern.ReplaceAllString(s, "─"), " ")
	}
	if strings.HasPrefix(line, "alarm") {
		s = spacesPattern.ReplaceAllString(s, " ") // protobuf's own text has one or two, by chance of the build
	}
	return s
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name + ".golden"
	if *record != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from what etcdctl 3.7.3 printed (-it +us):\n%s", diff)
	}
}
