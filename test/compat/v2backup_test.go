package compat

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keelson/test/process"
)

// A backup by etcdctl's v2 command, of the directory of one of three members, starts as the only member of a new cluster, has
// the v2 keys, and goes on. The v3 keys are there where they were asked for, as in the copy that Debian's 3.4.23 makes; of a
// Keelson's they always are, since its v2 keys are among them.
func TestV2Backup(t *testing.T) {
	for _, x := range []struct {
		kind, tool string
		withV3     bool
		v3         bool // whether v3 keys are there
		snapshots  int
	}{
		{"etcd34", "etcd34", false, false, 20},
		{"etcd34", "etcd34", true, true, 20},
		{"etcd34", "keelson", false, false, 20},
		{"etcd34", "keelson", true, true, 20},
		{"etcd34", "keelson", true, true, 100000},
		{"keelson", "keelson", false, true, 20},
		{"keelson", "keelson", true, true, 100000},
	} {
		t.Run(fmt.Sprintf("%s by %s, v3 %t, snapshots %d", x.kind, x.tool, x.withV3, x.snapshots), func(t *testing.T) {
			t.Parallel()
			p, tool := stock(t, "etcd34"), ours(t)
			if x.tool == "etcd34" {
				tool = p
			}
			if x.kind == "keelson" {
				p = ours(t)
			}
			dir, want := v2Lived(t, p, fmt.Sprintf("--snapshot-count=%d", x.snapshots))
			copied := filepath.Join(t.TempDir(), "copy")
			args := []string{"backup", "--data-dir", dir, "--backup-dir", copied}
			if x.withV3 {
				args = append(args, "--with-v3")
			}
			if o := process.Tool(t, tool.Path("etcdctl"), "", []string{"ETCDCTL_API=2"}, args...); o.Status != 0 {
				t.Fatalf("backup: %+v", o)
			}
			v2Revived(t, p, copied, want, x.v3)
		})
	}
}

// v2Lived gives the directory of one of three members, which run no more, and what v2 lists.
func v2Lived(t *testing.T, p process.Program, flags ...string) (dir, list string) {
	t.Helper()
	all := process.Cluster(t, []process.Program{p, p, p}, append(flags, "--enable-v2")...)
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	m := all[0]
	// It is m alone that is asked: another one may know later what was set.
	ask := v2Asker(t, m)
	for i := range 30 {
		v2Change(t, m, "set", fmt.Sprintf("/dir/k%d", i), fmt.Sprint(i))
	}
	v2Change(t, m, "rm", "/dir/k3")
	v2Change(t, m, "mkdir", "/timed", "--ttl", "1000")
	if err := process.Settled(t, func() error { _, err := m.Client().Put(t.Context(), "v3", "1"); return err }); err != nil {
		t.Fatal(err)
	}
	list = ask("--no-sync", "get", "/dir/k7") + ask("--no-sync", "ls", "--sort", "--recursive", "-p")
	for _, m := range all {
		m.Stop()
	}
	return m.Dir, list
}

// v2Change makes a change, once more where an election came in between: then it may be made already.
func v2Change(t *testing.T, m *process.Member, args ...string) {
	t.Helper()
	tries := 0
	process.Until(t, fmt.Sprintf("%q is done", args), func() error {
		tries++
		o := process.Tool(t, ours(t).Path("etcdctl"), "", []string{"ETCDCTL_API=2", "ETCDCTL_ENDPOINTS=" + m.ClientURL()}, append([]string{"--no-sync"}, args...)...)
		made := strings.Contains(o.Stderr, "100:") || strings.Contains(o.Stderr, "105:")
		if o.Status != 0 && !(tries > 1 && made) {
			return fmt.Errorf("%+v", o)
		}
		return nil
	})
}

// v2Asker runs Keelson's etcdctl for v2 against a member.
func v2Asker(t *testing.T, m *process.Member) func(args ...string) string {
	return func(args ...string) string {
		t.Helper()
		o := process.Tool(t, ours(t).Path("etcdctl"), "", []string{"ETCDCTL_API=2", "ETCDCTL_ENDPOINTS=" + m.ClientURL()}, args...)
		if o.Status != 0 {
			t.Fatalf("etcdctl %q: %+v", args, o)
		}
		return o.Stdout
	}
}

// v2Revived starts the copy, once by force and once more without, and compares what it holds.
func v2Revived(t *testing.T, p process.Program, dir, want string, v3 bool) {
	t.Helper()
	m := process.Single(t, p, dir, "--enable-v2", "--force-new-cluster")
	for i, flags := range [][]string{m.Flags, slices.DeleteFunc(slices.Clone(m.Flags), func(f string) bool { return strings.HasPrefix(f, "--force") })} {
		m.Flags = flags
		m.Serve()
		ask := v2Asker(t, m)
		if got := ask("--no-sync", "get", "/dir/k7") + ask("--no-sync", "ls", "--sort", "--recursive", "-p"); got != want {
			t.Errorf("start %d lists\n%s\nbefore the backup it was\n%s", i, got, want)
		}
		ask("--no-sync", "set", "/after", fmt.Sprint(i))
		want = strings.Replace(want, "/dir/\n", "/after\n/dir/\n", 1-i)
		if members := ask("--no-sync", "member", "list"); strings.Count(members, "\n") != 1 || !strings.Contains(members, "isLeader=true") {
			t.Errorf("start %d has the members\n%s", i, members)
		}
		r, err := m.Client().Get(t.Context(), "v3")
		if err != nil || (len(r.Kvs) == 1) != v3 {
			t.Errorf("start %d: the v3 key is %v, %v", i, r, err)
		}
		m.Stop()
	}
}
