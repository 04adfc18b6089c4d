package compat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// cluster is the members of one cluster, of both kinds.
type cluster struct {
	t   *testing.T
	all []*process.Member
	// kinds are ours and the other's names.
	kinds []string
	// user is who asks the members once auth is enabled.
	user string
}

// form starts a cluster of the named kinds.
func form(t *testing.T, kinds ...string) *cluster {
	t.Helper()
	return formWith(t, []string{"--snapshot-count=500", "--snapshot-catchup-entries=50"}, kinds...)
}

func formWith(t *testing.T, flags []string, kinds ...string) *cluster {
	t.Helper()
	var programs []process.Program
	for _, k := range kinds {
		if k == "keelson" {
			programs = append(programs, ours(t))
		} else {
			programs = append(programs, stock(t, k))
		}
	}
	slices.Sort(kinds)
	c := &cluster{t: t, all: process.Cluster(t, programs, flags...), kinds: slices.Compact(kinds)}
	for _, m := range c.all {
		m.Env = []string{"ETCD_VERIFY=all"}
		m.Start()
	}
	c.healthy()
	return c
}

func (c *cluster) healthy() {
	c.t.Helper()
	for _, m := range c.all {
		m.WaitHealthy()
	}
}

// leader finds who leads.
func (c *cluster) leader() *process.Member {
	c.t.Helper()
	var found *process.Member
	process.Until(c.t, "there is a leader", func() error {
		for _, m := range c.all {
			if !m.Running() {
				continue
			}
			s, err := c.status(m)
			if err == nil && s.Leader == s.Header.MemberId {
				found = m
				return nil
			}
		}
		return errors.New("none leads")
	})
	return found
}

func (c *cluster) status(m *process.Member) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
	defer cancel()
	client := m.Client()
	if c.user != "" {
		var err error
		if client, err = clientOf(m, c.user, time.Second); err != nil {
			return nil, err
		}
	}
	defer client.Close()
	return client.Status(ctx, m.ClientAddr)
}

// lead has a member of that kind lead: whoever else leads stops and starts again, until one does.
func (c *cluster) lead(kind string) *process.Member {
	c.t.Helper()
	for range 20 {
		m := c.leader()
		if m.Program.Name == kind {
			return m
		}
		m.Kill()
		next := c.leader()
		m.Serve()
		if next.Program.Name == kind {
			return next
		}
	}
	c.t.Fatalf("no %s member came to lead", kind)
	return nil
}

// leadAfresh does it with one that has sent no snapshot in its present life: both kinds hold their log back for 30 s after
// one, and who comes late then needs none.
func (c *cluster) leadAfresh(kind string) *process.Member {
	c.t.Helper()
	for range 20 {
		m := c.lead(kind)
		if !strings.Contains(m.Log(), "sent database snapshot") {
			return m
		}
		m.Kill()
		c.leader()
		m.Serve()
	}
	c.t.Fatalf("no fresh %s member came to lead", kind)
	return nil
}

// oneOf gives a follower of that kind, or nil.
func (c *cluster) oneOf(kind string, not *process.Member) *process.Member {
	for _, m := range c.all {
		if m != not && m.Program.Name == kind {
			return m
		}
	}
	return nil
}

// puts makes n puts through one member after the other.
func (c *cluster) puts(what string, n int) {
	c.t.Helper()
	var clients []*clientv3.Client
	for _, m := range c.all {
		if m.Running() {
			clients = append(clients, m.Client())
		}
	}
	for i := range n {
		// One that was handed to a leader that died is answered by nobody: it times out, and is then made again.
		process.Until(c.t, fmt.Sprintf("put %d of %s is done", i, what), func() error {
			ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
			defer cancel()
			_, err := clients[i%len(clients)].Put(ctx, fmt.Sprintf("%s/%05d", what, i), strings.Repeat("v", 100))
			return err
		})
	}
}

// agree waits until all hold the same.
func (c *cluster) agree(when string) {
	c.t.Helper()
	process.Until(c.t, when+": all members hold the same", func() error {
		var first state
		for i, m := range c.all {
			r, err := m.Client().Get(c.t.Context(), "x")
			if err != nil {
				return err
			}
			h, err := m.Client().HashKV(c.t.Context(), m.ClientAddr, 0)
			if err != nil {
				return err
			}
			s := state{rev: r.Header.Revision, hash: h.Hash, compacted: h.CompactRevision}
			if i == 0 {
				first = s
			} else if s.rev != first.rev || s.hash != first.hash || s.compacted != first.compacted {
				return fmt.Errorf("%s (%s): revision %d, hash %08x; %s: %d, %08x", c.all[0].Name, c.all[0].Program.Name, first.rev, first.hash, m.Program.Name, s.rev, s.hash)
			}
		}
		return nil
	})
}

// catchUp keeps one follower of each kind down until the leader's log no longer reaches back to it: it needs a snapshot. Where
// another one came to lead meanwhile, or the leader had sent a snapshot before, nothing is shown: it is done once more.
func (c *cluster) catchUp(leading, kind string) {
	c.t.Helper()
	for range 10 {
		lead := c.leadAfresh(leading)
		m := c.oneOf(kind, lead)
		if m == nil {
			return
		}
		m.Kill()
		c.puts(fmt.Sprintf("without a %s under a %s", kind, leading), 1200)
		err := process.Settled(c.t, func() error { _, err := lead.Client().Compact(c.t.Context(), 20); return err })
		if err != nil && !strings.Contains(err.Error(), "compacted") {
			c.t.Fatal(err)
		}
		fresh := !strings.Contains(lead.Log(), "sent database snapshot")
		m.Serve()
		c.agree(fmt.Sprintf("a %s caught up with a %s", kind, leading))
		if log := m.Log(); strings.Contains(log, `"msg":"applying a snapshot"`) || strings.Contains(log, `"msg":"applied snapshot"`) {
			return
		}
		if fresh && c.leader() == lead {
			c.t.Errorf("under a %s (%s) the %s (%s) did not catch up by a snapshot", leading, lead.Name, kind, m.Name)
			return
		}
	}
	c.t.Errorf("no %s led for long enough", leading)
}

// Members of both kinds form one cluster: each kind leads, a follower of each kind catches up by snapshot under a leader
// of each kind, each is killed between puts, and in the end all hold the same.
func TestMixed(t *testing.T) {
	for _, kinds := range [][]string{{"keelson", "keelson", "etcd37"}, {"etcd37", "etcd37", "keelson"}, {"keelson", "etcd36", "keelson"}} {
		t.Run(strings.Join(kinds, " "), func(t *testing.T) {
			t.Parallel()
			c := form(t, slices.Clone(kinds)...)
			write(t, c.all[0], 0)
			c.agree("at first")
			for _, leading := range c.kinds {
				c.lead(leading)
				c.puts("led by "+leading, 200)
				for _, kind := range c.kinds {
					c.catchUp(leading, kind)
				}
			}
			for i, m := range c.all {
				m.Kill()
				c.puts(fmt.Sprint("while one is down ", i), 400)
				m.Serve()
			}
			write(t, c.all[2], 1)
			c.agree("at the end")
			for i, m := range c.all {
				want := observe(t, c.all[(i+1)%3])
				got := observe(t, m)
				want.members, got.members = nil, nil // read by different members, perhaps at different times
				same(t, m.Name, got, want)
			}
			c.leases()
			for _, m := range c.all {
				m.Stop()
			}
		})
	}
}

// leases grants and renews through every member: what a follower does not know it asks its leader, of either kind.
func (c *cluster) leases() {
	c.t.Helper()
	for _, leading := range c.kinds {
		c.lead(leading)
		for _, m := range c.all {
			client := m.Client()
			l, err := client.Grant(c.t.Context(), 300)
			if err != nil {
				c.t.Fatal(err)
			}
			for _, other := range c.all {
				oc := other.Client()
				if r, err := oc.KeepAliveOnce(c.t.Context(), l.ID); err != nil || r.TTL != 300 {
					c.t.Errorf("led by %s: %s renews the lease of %s: %v %v", leading, other.Program.Name, m.Program.Name, r, err)
				}
				if r, err := oc.TimeToLive(c.t.Context(), l.ID); err != nil || r.GrantedTTL != 300 {
					c.t.Errorf("led by %s: %s looks at the lease of %s: %v %v", leading, other.Program.Name, m.Program.Name, r, err)
				}
			}
			// The client asks by itself once more where an election came in between: then the lease may be gone.
			if _, err := client.Revoke(c.t.Context(), l.ID); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				c.t.Fatal(err)
			}
		}
	}
}
