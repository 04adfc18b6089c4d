package v2ctl

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var record = flag.String("record", "", "path of etcdctl 3.4.23: write testdata/*.golden from what it prints")

// A golden case is one command line: words parted by spaces, or in single quotes. "|" ends it; what follows is stdin.

// formatCases are run with each format.
var formatCases = []string{
	`get a`, `get ttl`, `get dir`, `get -q --sort a`, `get /a/../b//c/`,
	`set a 1`, `set ttl 1 --ttl 77`, `set a|from the input`, `mk a 1`, `mk --in-order q 1`, `update a 1`, `mkdir d`, `setdir dir --ttl 5`, `updatedir dir --ttl 5`,
	`rm a`, `rm dir`, `rm --recursive dir`, `rmdir a`, `rmdir dir`, `rm a --with-index 3`,
	`ls`, `ls a`, `ls dir --sort -p --recursive`,
	`watch tree`, `watch -r tree`, `watch --after-index 7 --recursive tree`, `watch --forever a`,
	`get none`, `rm none`, `get locked`, `set none 1`,
}

// cases are run once.
var cases = []string{
	`get -sort=true -quorum a`, `get a b c`, `get 'with space' --sort`, `get é%2F?x`, `get ''`, `get a --`, `get -- a`, `get - a --sort`,
	`set a -- -1`, `set -- a -1`, `set a ''`, `set a|`, `set a 1 2 3`, `set a --ttl 5 1`, `set --ttl=0x10 a 1`, `set a 1 --ttl -5`, `set a 1 --swap-with-value old --swap-with-index 9`,
	`set a 'x y&z=%'`, `set a 1 --swap-with-index -1`, `mk a 1 --ttl 3`, `mk --in-order --ttl 3 q 1`, `mk a|v`, `mkdir --ttl 9 d`, `mkdir d e`, `update a 1 --ttl 4`, `update a|v`,
	`rm --dir dir`, `rm -r a`, `rm a --with-value x --with-index 2`, `rm a b`,
	`ls -p`, `ls -q -r dir`, `ls a b`,
	`get plain`, `get plainly`, `get empty`, `get broken`, `set broken 1`, `mk broken 1`, `rm broken`, `get moved`, `--output json get plain`, `--output json get broken`,
	`get`, `set`, `set a`, `mk`, `mk a`, `mkdir`, `setdir`, `updatedir`, `update`, `update a`, `rm`, `rmdir`, `watch`, `exec-watch`, `exec-watch a`,
	`--output yaml get a`, `--output yaml rm dir`, `-o json get a`, `--output=extended get a`, `--no-sync get a`, `--no-sync --username ann:pw get a`, `-u ann:p:w get a`, `-u ann get a|pw`,
	`--username ann: get a`, `--total-timeout 3s --timeout 2s get a`,
	`member list`, `member list x`, `member add c http://10.0.0.9:2380`, `member add c taken`, `member add c http://taken:1`, `member add c`, `member add`,
	`member remove 8e9e05c52164694d`, `member remove 91bc3c398fb3c146`, `member remove a`, `member remove none`, `member remove`, `member remove a b`,
	`member update 8e9e05c52164694d http://10.0.0.9:2380,http://10.0.0.8:2380`, `member update none http://a:1`, `member update taken http://a:1`, `member update a nonsense`, `member update a`,
	`user list`, `user list x`, `user add carol:pw`, `user add carol|pw`, `user add ann:pw`, `user add full:pw`, `user add`, `user add a b`, `user get ann`, `user get bob`, `user get nobody`, `user get`,
	`user remove ann`, `user remove full`, `user remove`, `user grant ann --roles app`, `user grant --roles app --roles more bob`, `user grant ann --roles app,more`, `user grant ann`, `user grant --roles app`,
	`user grant nobody --roles app`, `user revoke ann --roles app`, `user revoke ann`, `user passwd ann|new`, `user passwd nobody|new`, `user passwd`,
	`role list`, `role list x`, `role add new`, `role add app`, `role add full`, `role add`, `role get app`, `role get nothing`, `role get`, `role remove app`, `role remove full`, `role remove`,
	`role grant app --path /a --read`, `role grant app --path '/a*' --write`, `role grant app --path /a --rw`, `role grant --readwrite --path / app`, `role grant app --path a --read`, `role grant app --path /a/ --read`,
	`role grant app --path /a//b --read`, `role grant app --path /a`, `role grant app --path /a --read --write`, `role grant app --read`, `role grant --path /a --read`, `role grant nothing --path /a --read`,
	`role revoke app --path /a --read`, `role revoke app --path /a`, `role revoke app`,
	`auth enable`, `auth disable`, `auth enable x`,
	`cluster-health`, `--endpoints $DOWN cluster-health`, `--endpoints $DOWN get a`, `--endpoints $DOWN --no-sync get a`, `--endpoints $DOWN --no-sync --output json set a 1`, `--endpoints $DOWN user list`,
	`--endpoints $DOWN --no-sync member list`, `--endpoints $BARE get a`, `--endpoints $BARE --no-sync get a`, `--endpoints $BARE cluster-health`, `--endpoints $BARE user list`,
	`--endpoint $URL get a`, `--peers $URL get a`, `-C $URL get a`, `--cert-file x get a`, `--key-file x get a`, `--ca-file /nonexistent get a`, `--cert-file x --key-file y get a`, `--ca-file /nonexistent cluster-health`,
}

// misused are mistakes in the words themselves. Of their stdout the help is left out.
var misused = []string{
	`nosuch`, `import`, `help nosuch`, `member nosuch`, `member help nosuch`, `get --nosuch a`, `get a --nosuch`, `get -x a`, `set a 1 --ttl`, `set a 1 --ttl x`, `set a 1 --ttl 1.5`, `get --sort=maybe a`, `watch --recursive -r a`, `ls -r=0 --recursive`,
	`--nosuch get a`, `--debug=2 get a`, `--timeout 5 get a`, `--output`, `--output json -o json get a`, `member --nosuch list`, `member list --nosuch`, `role grant --rw --readwrite app`, `get ---a`, `get --=x`, `set a 1 --swap-with-index 99999999999999999999`,
}

// TestGolden compares what is printed and what is asked for with etcdctl 3.4.23.
func TestGolden(t *testing.T) {
	g := &golden{fake: startFake(t), bare: startFake(t)}
	g.bare.bare = true
	g.down = "http://127.0.0.1:1"
	for _, format := range []string{"simple", "extended", "json"} {
		t.Run(format, func(t *testing.T) {
			for _, c := range formatCases {
				g.run(t, c, "--output", format)
			}
			g.compare(t, format)
		})
	}
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			g.run(t, c)
		}
		g.compare(t, "cases")
	})
	t.Run("misused", func(t *testing.T) {
		for _, c := range misused {
			g.misuse(t, c)
		}
		g.compare(t, "misused")
	})
	t.Run("exec-watch", func(t *testing.T) {
		for _, c := range []string{
			`exec-watch --recursive tree -- sh -c '$SCRIPT'`, `exec-watch --after-index=7 -- sh -c '$SCRIPT' tree`, `exec-watch -- sh -c '$SCRIPT' a`,
		} {
			g.execWatch(t, c)
		}
		g.compare(t, "exec-watch")
	})
}

// golden collects what the cases print.
type golden struct {
	fake, bare *fake
	down       string // where nobody listens any more
	dir        string // of exec-watch's file
	bytes.Buffer
}

func (g *golden) run(t *testing.T, line string, global ...string) {
	t.Helper()
	status, out, diag := g.execute(t, line, global)
	fmt.Fprintf(g, "==== %s\n", g.equalize(line))
	for _, f := range []*fake{g.fake, g.bare} {
		for _, asked := range f.take() {
			fmt.Fprintln(g, "asked:", g.equalize(asked))
		}
	}
	fmt.Fprintf(g, "exit %d\n%s", status, g.equalize(out))
	g.diag(diag)
}

func (g *golden) diag(diag string) {
	for l := range strings.Lines(diag) {
		if !strings.HasPrefix(l, "stty: ") {
			fmt.Fprint(g, "stderr: ", g.equalize(l))
		}
	}
	if diag != "" && !strings.HasSuffix(diag, "\n") {
		fmt.Fprintln(g, "(no end of line)")
	}
}

// misuse is run for words that are wrong: the help that follows the message on stdout is our own.
func (g *golden) misuse(t *testing.T, line string) {
	t.Helper()
	status, out, diag := g.execute(t, line, nil)
	g.fake.take()
	message, _, _ := strings.Cut(out, "\n")
	fmt.Fprintf(g, "==== %s\nexit %d\n%s\n", line, status, message)
	g.diag(diag)
}

// execWatch runs a command for the changes, which leaves its environment in a file.
func (g *golden) execWatch(t *testing.T, line string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "out")
	g.fake.await(file)
	g.dir = dir
	g.run(t, strings.ReplaceAll(line, "$SCRIPT", `test -e `+file+` || { env > `+file+`.part; mv `+file+`.part `+file+`; }`))
	b, _ := os.ReadFile(file)
	found := slices.Collect(strings.Lines(string(b)))
	slices.Sort(found)
	for _, l := range found {
		if strings.HasPrefix(l, "ETCD_WATCH") {
			g.WriteString(l)
		}
	}
}

func (g *golden) execute(t *testing.T, line string, global []string) (status int, out, diag string) {
	t.Helper()
	stdin := ""
	if !strings.Contains(line, "||") {
		line, stdin, _ = strings.Cut(line, "|")
	}
	words := split(strings.NewReplacer("$URL", g.fake.URL, "$BARE", g.bare.URL, "$DOWN", g.down).Replace(line))
	env := []string{"ETCDCTL_API=2", "ETCDCTL_PEERS=" + g.fake.URL, "PATH=" + os.Getenv("PATH")}
	args := append(global, words...)
	var stdout, stderr bytes.Buffer
	if *record == "" {
		p := Program{Args: args, Env: env, In: strings.NewReader(stdin), Out: &stdout, Diag: &stderr}
		p.AskPassword = func(text string) (string, error) {
			fmt.Fprintln(&stdout, text)
			return stdin, nil
		}
		return p.Run(), stdout.String(), stderr.String()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, *record, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, strings.NewReader(stdin), &stdout, &stderr
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// split parts words at spaces, but for those in single quotes.
func split(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// equalize hides the ports of the fakes.
func (g *golden) equalize(s string) string {
	if g.dir != "" {
		s = strings.ReplaceAll(s, g.dir, "DIR")
	}
	return strings.NewReplacer(g.fake.URL, "http://FAKE", g.bare.URL, "http://BARE", strings.TrimPrefix(g.down, "http://"), "DOWN").Replace(s)
}

func (g *golden) compare(t *testing.T, name string) {
	t.Helper()
	defer g.Reset()
	file := "testdata/" + name + ".golden"
	if *record != "" {
		if err := os.WriteFile(file, g.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), g.String()); diff != "" {
		t.Errorf("differs from what etcdctl 3.4.23 printed (-it +us):\n%s", diff)
	}
}
