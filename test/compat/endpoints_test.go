package compat

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keelson/test/process"
)

// moving is what differs between two questions to the same members.
var moving = regexp.MustCompile(`\d+(\.\d+)?(ms|µs|s)\b|"ts":"[^"]*"|0x[0-9a-f]{8,}|LocalAddr: '[^']*'|─+| +`)

// endpoint status, health and hashkv of a whole cluster, well and with a member down, read the same from both etcdctls,
// against members of both kinds. Health comes in no certain order from etcd's.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	theirs := stock(t, "etcd37")
	for _, server := range []process.Program{ours(t), theirs} {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			all := process.Cluster(t, []process.Program{server, server, server})
			for _, m := range all {
				m.Start()
			}
			for _, m := range all {
				m.WaitHealthy()
			}
			all[0].Ctl("put", "a", "b")
			for _, state := range []string{"well", "one down"} {
				if state == "one down" {
					all[2].Kill()
					all[0].WaitHealthy() // it may have led
					all[1].WaitHealthy()
				}
				for _, verb := range []string{"status", "health", "hashkv", "hashkv --rev=2", "hashkv --rev=99"} {
					for _, format := range []string{"simple", "table", "json", "fields"} {
						args := append(strings.Fields("--cluster -w "+format+" endpoint"), strings.Fields(verb)...)
						var got, want string
						process.Until(t, "the members stay as they are while both look", func() error {
							// Members apply, write their files' versions and elect in their own time.
							want = endpointsBy(t, theirs, all[0], args)
							got = endpointsBy(t, ours(t), all[0], args)
							if again := endpointsBy(t, theirs, all[0], args); again != want {
								return fmt.Errorf("etcd's printed\n%s\nand then\n%s", want, again)
							}
							return nil
						})
						if got != want {
							t.Errorf("%s: %v:\n%s\nby etcd's:\n%s", state, args, got, want)
						}
					}
				}
			}
		})
	}
}

// endpointsBy gives what a program's etcdctl prints, without what etcd's client and our hints tell beside.
func endpointsBy(t *testing.T, p process.Program, m *process.Member, args []string) string {
	t.Helper()
	o := process.Tool(t, p.Path("etcdctl"), "", append(process.CtlTimes(args...), "ETCDCTL_ENDPOINTS=http://"+m.ClientAddr), args...)
	var told []string
	for line := range strings.Lines(o.Stderr) {
		if !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, "Hint:") && !strings.HasPrefix(line, "      ") {
			told = append(told, line)
		}
	}
	out := []string{o.Stdout}
	if slices.Contains(args, "health") {
		out = strings.Split(strings.NewReplacer("[{", "{", "}]", "}", "},{", "}\n{").Replace(o.Stdout), "\n")
		slices.Sort(out)
		slices.Sort(told)
	}
	return moving.ReplaceAllString(fmt.Sprintf("status %d\n%s%s", o.Status, strings.Join(out, ""), strings.Join(told, "")), " ")
}
