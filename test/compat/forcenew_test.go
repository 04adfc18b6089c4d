package compat

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// join makes a member that joins the cluster of others, to which it was added.
func join(t *testing.T, p process.Program, others ...*process.Member) *process.Member {
	t.Helper()
	m := process.Single(t, p, "")
	m.Name = "joined"
	m.Env = []string{"ETCD_VERIFY=all"}
	initial := m.Name + "=http://" + m.PeerAddr
	for _, o := range others {
		initial += "," + o.Name + "=http://" + o.PeerAddr
	}
	m.Flags = []string{"--initial-cluster=" + initial, "--initial-cluster-state=existing"}
	return m
}

// force makes m, whose process has ended, the only member of its cluster, by Keelson, twice, and expects its keys.
func force(t *testing.T, m *process.Member, want state) {
	t.Helper()
	want.members = nil
	for _, e := range ends {
		flags := m.Flags
		m.Flags = append(append([]string(nil), flags...), "--force-new-cluster")
		m.With(ours(t)).Serve()
		if !strings.Contains(m.Log(), "Remove the flag") {
			t.Error("no word of the flag")
		}
		m.Flags = flags
		got := observe(t, m)
		if len(got.members) != 1 || strings.Contains(got.members[0], "learner true") {
			t.Errorf("members after the force: %v", got.members)
		}
		got.members = nil
		same(t, "forced, then to be "+e.name, got, want)
		e.how(m)
	}
}

// grown starts m under stock 3.7.3, adds a member of Keelson to it, and compares what they hold.
func grown(t *testing.T, m *process.Member) {
	t.Helper()
	m.With(stock(t, "etcd37")).Serve()
	second := join(t, ours(t), m)
	if _, err := m.Client().MemberAdd(t.Context(), []string{"http://" + second.PeerAddr}); err != nil {
		t.Fatal(err)
	}
	second.Serve()
	c := &cluster{t: t, all: []*process.Member{m, second}}
	c.puts("grown", 20)
	c.agree("grown again")
}

// Of three members of any kind, killed at once, one is forced to go on alone with all that was acknowledged; stock 3.7.3 then
// opens its directory, and members can be added again.
func TestForceNewCluster(t *testing.T) {
	for _, kind := range []string{"keelson", "etcd37", "etcd35"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := ours(t)
			if kind != p.Name {
				p = stock(t, kind)
			}
			c := &cluster{t: t, all: process.Cluster(t, []process.Program{p, p, p}, "--snapshot-count=300"), kinds: []string{kind}}
			for _, m := range c.all {
				m.Start()
			}
			c.healthy()
			write(t, c.all[0], 0)
			c.puts("before", 300) // more than a record of the log apart
			c.agree("before")
			want := observe(t, c.all[1])
			m := c.all[1]
			if kind != "keelson" {
				m.Stop() // stock keeps in memory for a while what it has learned to be committed, and what is not is dropped
			}
			for _, m := range c.all {
				if m.Running() {
					m.Kill()
				}
			}
			m.Flags = nil
			force(t, m, want)
			grown(t, m)
		})
	}
}

// A learner's directory, copied to another host, is forced too.
func TestForceNewLearner(t *testing.T) {
	for _, kind := range []string{"etcd36"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			m := single(t, stock(t, kind)).Serve()
			write(t, m, 0)
			learner := join(t, stock(t, kind), m)
			if _, err := m.Client().MemberAddAsLearner(t.Context(), []string{"http://" + learner.PeerAddr}); err != nil {
				t.Fatal(err)
			}
			learner.Start()
			write(t, m, 1)
			process.Until(t, "the learner has all", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				a, err := m.Client().Get(ctx, "x")
				if err != nil {
					return err
				}
				s, err := learner.Client().Get(ctx, "x", clientv3.WithSerializable())
				if err == nil && s.Header.Revision != a.Header.Revision {
					err = fmt.Errorf("revision %d of %d", s.Header.Revision, a.Header.Revision)
				}
				return err
			})
			want := observe(t, m)
			m.Kill()
			learner.Stop() // what it has applied is not all on its disk before

			dir := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(learner.Dir)); err != nil {
				t.Fatal(err)
			}
			other := process.Single(t, ours(t), dir)
			other.Name = learner.Name
			force(t, other, want)
			if !strings.Contains(other.Log(), "member update") {
				t.Error("no word of the other host's URLs")
			}
			other.With(stock(t, "etcd37")).Serve()
			write(t, other, 2)
		})
	}
}
