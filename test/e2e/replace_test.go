package e2e

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// replaceRate is the puts a second under which members are replaced.
const replaceRate = 500

// Each of three members is replaced, one by one, under load: removed, added again, and started with an empty directory at
// the addresses of the old one, as a script with etcdctl does. No acknowledged write is lost and all hold the same.
func TestReplaceMembers(t *testing.T) {
	membersOnly(t, "a proxy lists itself, and knows no member that joins")
	long(t)
	t.Parallel()
	replaceAll(t, func(_ *clientv3.Client, old, other *process.Member) *process.Member {
		change(t, other, "remove", idOf(t, other, old.Name))
		if status := old.WaitExit(); status != 0 {
			t.Errorf("%s ended with status %d after its removal", old.Name, status)
		}
		added := joiner(t, old.Name, old.ClientAddr, old.PeerAddr)
		added.Env = variables(t, change(t, other, "add", added.Name, "--peer-urls=http://"+added.PeerAddr))
		return added.Serve()
	})
}

// The same through learners: added without a vote, promoted once it has caught up, and the old member removed then. At no
// time are there fewer than three voters. The client asks the cluster for its new endpoints.
func TestReplaceThroughLearners(t *testing.T) {
	membersOnly(t, "a proxy lists itself, and knows no member that joins")
	long(t)
	t.Parallel()
	replaceAll(t, func(client *clientv3.Client, old, other *process.Member) *process.Member {
		addrs := process.FreeAddrs(t, 2)
		added := joiner(t, "new-"+old.Name, addrs[0], addrs[1])
		added.Env = variables(t, change(t, other, "add", added.Name, "--learner", "--peer-urls=http://"+added.PeerAddr))
		added.Start()
		change(t, other, "promote", idOf(t, other, added.Name))
		added.WaitHealthy()
		change(t, other, "remove", idOf(t, other, old.Name))
		if status := old.WaitExit(); status != 0 {
			t.Errorf("%s ended with status %d after its removal", old.Name, status)
		}
		ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
		defer cancel()
		if err := client.Sync(ctx); err != nil {
			t.Error(err)
		}
		return added
	})
}

// replaceAll replaces each of three members under load by what replace makes of it with the help of another.
func replaceAll(t *testing.T, replace func(client *clientv3.Client, old, other *process.Member) *process.Member) {
	t.Helper()
	all := three(t)
	client := process.Dial(t, all...)
	load := process.StartLoad(t, client, "replace", replaceRate)
	load.Await(t, replaceRate)
	for i, old := range all {
		all[i] = replace(client, old, all[(i+1)%len(all)])
		load.Await(t, replaceRate)
	}
	load.Stop()
	n := load.Check(t, client)
	t.Logf("%d puts acknowledged, %d failed, the slowest took %v", n, len(load.Failed), load.Slowest)
	for _, f := range load.Failed[:min(len(load.Failed), 10)] {
		t.Log(f)
	}
	if out := all[0].Ctl("member", "list"); strings.Count(out, ", started, ") != len(all) || strings.Count(out, "\n") != len(all) {
		t.Errorf("the members at the end:\n%s", out)
	}
	agreeOnHash(t, all)
	for _, m := range all {
		m.Stop()
	}
}

// change runs etcdctl member until the members let it: not before a majority has been connected for five seconds, nor is a
// learner promoted before it has caught up.
func change(t *testing.T, m *process.Member, args ...string) string {
	t.Helper()
	out := ""
	process.Until(t, "etcdctl member "+args[0]+" is done", func() error {
		o := m.TryCtl(append([]string{"member"}, args...)...)
		out = o.Stdout
		switch {
		case o.Status == 0:
			return nil
		case !strings.Contains(o.Stderr, "unhealthy cluster") && !strings.Contains(o.Stderr, "in sync with leader"):
			t.Fatalf("etcdctl member %v: %s", args, o.Stderr)
		}
		return errors.New(o.Stderr)
	})
	return out
}

// joiner makes a member with an empty directory that learns of its cluster from variables.
func joiner(t *testing.T, name, clientAddr, peerAddr string) *process.Member {
	t.Helper()
	m := process.Single(t, keelson, filepath.Join(t.TempDir(), "data"),
		"--listen-client-urls=http://"+clientAddr, "--advertise-client-urls=http://"+clientAddr, "--listen-peer-urls=http://"+peerAddr)
	m.Name, m.ClientAddr, m.PeerAddr, m.Bare = name, clientAddr, peerAddr, true
	m.Flags = append(m.Flags, "--data-dir="+m.Dir)
	return m
}

// variables gives the lines that etcdctl member add prints for the environment of the new member.
func variables(t *testing.T, out string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "ETCD_") {
			all = append(all, strings.ReplaceAll(strings.TrimSpace(line), `"`, ""))
		}
	}
	if len(all) != 4 {
		t.Fatalf("member add printed no four variables: %s", out)
	}
	return all
}

// idOf asks a member for another's ID. One that was added and has not started has no name yet.
func idOf(t *testing.T, asked *process.Member, name string) string {
	t.Helper()
	id := ""
	process.Until(t, name+" is a member", func() error {
		for line := range strings.Lines(asked.Ctl("member", "list")) {
			if f := strings.Split(line, ", "); len(f) > 2 && f[2] == name {
				id = f[0]
				return nil
			}
		}
		return errors.New("it is not in the list")
	})
	return id
}
