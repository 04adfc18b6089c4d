package compat

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keelson/test/process"
)

// twins runs f against Keelson and then against etcd 3.7.3, both new, on the same addresses and so with the same IDs.
func twins(t *testing.T, f func(m *process.Member) []string) (got, want []string) {
	t.Helper()
	m := single(t, ours(t))
	there := stock(t, "etcd37")
	m.Serve()
	got = f(m)
	m.Stop()
	m.Dir = filepath.Join(t.TempDir(), "data")
	m.With(there).Serve()
	want = f(m)
	m.Stop()
	return got, want
}

// agree compares line by line.
func agree(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d answers, etcd gives %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("answer %d:\n%s\netcd's:\n%s", i, got[i], want[i])
		}
	}
}

// commands are run in this order. $L is the lease that was granted last; a | parts the arguments from the input.
var commands = []string{
	"put a 1", "put a 2 --prev-kv", "put b 1 -w json", "put c 1 -w fields", "put d 1 -w protobuf", "put e 1 -w table",
	"put", "put onlykey|from stdin", "put x y z", "put -- -a -b", "put a --ignore-value", "put zz --ignore-value", "put a v --ignore-value", "put a v --lease=7b",
	"put a 3 --ignore-lease", "put zz 3 --ignore-lease", "put k v --lease=notanumber", "put k v --no-such-flag",
	"get a", "get a -w json", "get a -w fields", "get a -w protobuf", "get a -w table", "get a --hex", "get a --print-value-only", "get a --keys-only",
	"get a d", "get a --prefix", "get --from-key b", "get --prefix ''", "get a --limit=1 --from-key", "get a --rev=2", "get a --rev=3 -w fields", "get a --rev=100", "get a --rev=-1",
	"get a z --order=DESCEND", "get a z --order=ASCEND --sort-by=VALUE", "get a z --sort-by=MODIFY --order=DESCEND --limit=2", "get a z --sort-by=VERSION", "get a --order=SIDEWAYS", "get a --sort-by=SIZE",
	"get a z --count-only", "get a z --count-only -w fields", "get a z --count-only -w json", "get missing", "get missing -w fields", "get", "get a b c", "get a --prefix --from-key", "get a b --prefix",
	"get a --consistency=s", "get a --consistency=x", "get a z --min-mod-rev=4", "get a z --max-mod-rev=4", "get a z --min-create-rev=3 --max-create-rev=5", "get a z --keys-only --limit=3", "get a z --print-value-only --keys-only", "get a z --print-value-only --count-only",
	"get a z --stream", "get a z --stream --limit=2", "get a z --stream --keys-only", "get a z --stream --order=DESCEND", "get missing --stream", "get a z --stream -w json",
	"del a", "del a", "del b --prev-kv", "del --prefix c --prev-kv -w json", "del", "del x y z", "del d z -w fields", "del --from-key zzz", "del a --prefix --from-key", "del a -w table",
	"put t/1 one", "put t/2 two",
	"txn|value(\"t/1\") = \"one\"\n\nput t/1 uno\nget t/1\n\nput t/1 no\n\n",
	"txn -w json|mod(\"t/1\") > \"0\"\nversion(\"t/2\") = \"1\"\n\nget t/ --prefix\ndel t/2\n\nget x\n\n",
	"txn|create(\"t/1\") = \"0\"\n\nput t/1 1\n\nget t/1\nput t/3 3\n\n",
	"txn -w fields|lease(\"t/1\") = \"0\"\n\nget t/1\n\n\n", "txn|value(\"t/1\") ! \"x\"\n\nget t/1\n\n\n", "txn|nonsense\n\n\n\n", "txn|\nput t/9 1\nput t/9 2\n\n\n", "txn|\n\n\n", "txn -w table|\nget t/1\n\n\n",
	"endpoint hashkv", "compaction 5", "compaction 5", "compaction 1", "compaction 1000000", "compaction x", "compaction", "get t/1 --rev=4", "compaction 9 --physical", "get --prefix t --rev=9",
	"endpoint hashkv", "endpoint hashkv --rev=12", "endpoint hashkv --rev=9", "endpoint hashkv --rev=5", "endpoint hashkv --rev=6", "endpoint hashkv --rev=100000", "endpoint hashkv -w json",
	"lease grant 100", "lease timetolive $L", "lease timetolive $L --keys", "put leased v --lease=$L", "lease timetolive $L --keys", "lease list", "lease keep-alive --once $L", "lease grant 0", "lease grant -1", "lease grant x", "lease grant",
	"lease grant 99999999999", "lease revoke $L", "lease revoke $L", "lease timetolive $L", "lease keep-alive --once $L", "lease list", "get leased", "lease timetolive nothex", "lease revoke", "lease grant 50 -w json", "lease list -w json", "lease timetolive $L -w fields",
	"watch t/1 --rev=3|", "member list", "member list -w json", "member list -w table", "member list -w fields", "endpoint health -w fields",
	"alarm list", "version", "nosuchcommand", "get --endpoints= a", "get a -w nosuchformat", "get a --command-timeout=0s", "",
}

// unstable is what differs between two runs of the same program: lease IDs, names of connections, times, sizes of files, tokens of errors.
var unstable = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`client-[0-9a-f-]{36}`), "client-<U>"},
	{regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ C `), "<T> C "},
	{regexp.MustCompile(`[0-9]{16,20}|[0-9a-f]{16}`), "<ID>"},
	{regexp.MustCompile(`LocalAddr: '[^']*'`), "LocalAddr: <A>"},
	{regexp.MustCompile(`took = [^ \n]+`), "took = <T>"},
	{regexp.MustCompile(`"Took" : \S+`), `"Took" : <T>`},
	{regexp.MustCompile(`"ts":"[^"]*"`), `"ts":"<T>"`},
	{regexp.MustCompile(`0x[0-9a-f]{8,}`), "<P>"},
	{regexp.MustCompile(`remaining\(\d+s\)`), "remaining(<T>)"},
	{regexp.MustCompile(`"TTL" : [34]\d\b`), `"TTL" : <T>`}, // what is left of 50 s
	{regexp.MustCompile(`"(raft_index|raftIndex|RaftIndex)":\d+`), `"$1":<N>`},
}

func stable(s string) string {
	for _, u := range unstable {
		s = u.re.ReplaceAllString(s, u.to)
	}
	return s
}

var granted = regexp.MustCompile(`^lease ([0-9a-f]{16}) granted|"ID":(\d+),"TTL"`)

// The same commands, run by etcd's own etcdctl of now and of 3.4, print the same against both and end with the same status.
func TestCommands(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"etcd37", "etcd34"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			ctl := stock(t, tool).Path("etcdctl")
			got, want := twins(t, func(m *process.Member) []string { return runCommands(t, ctl, m) })
			agree(t, got, want)
		})
	}
}

func runCommands(t *testing.T, ctl string, m *process.Member) (all []string) {
	t.Helper()
	lease := "0"
	for _, line := range commands {
		words, input, _ := strings.Cut(line, "|")
		args := strings.Fields(strings.ReplaceAll(words, "$L", lease))
		for i, a := range args {
			args[i] = strings.Trim(a, "'")
		}
		o := process.Tool(t, ctl, input, append(process.CtlTimes(args...), "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=http://"+m.ClientAddr), args...)
		if g := granted.FindStringSubmatch(o.Stdout); g != nil && g[1] != "" {
			lease = g[1]
		}
		all = append(all, stable(fmt.Sprintf("etcdctl %s\nstatus %d\n%s%s", line, o.Status, o.Stdout, o.Stderr)))
	}
	return all
}
