package compat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/test/process"
)

// versions waits until a member shows these versions of cluster and store, and whether a downgrade is under way.
func versions(t *testing.T, m *process.Member, clusterVersion, storage string, downgrading bool) {
	t.Helper()
	process.Until(t, fmt.Sprintf("%s (%s) is at %s, %s, downgrading %v", m.Name, m.Program.Name, clusterVersion, storage, downgrading), func() error {
		body, err := m.HTTP("/version")
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := m.Client()
		defer c.Close()
		s, err := c.Status(ctx, m.ClientAddr)
		if err != nil {
			return err
		}
		down := (*pb.StatusResponse)(s).GetDowngradeInfo()
		if !strings.Contains(body, `"etcdcluster":"`+clusterVersion+`"`) || s.StorageVersion != storage || down.GetEnabled() != downgrading {
			return fmt.Errorf("%s, storage %s, downgrade %v", strings.TrimSpace(body), s.StorageVersion, down)
		}
		return nil
	})
}

// Commands answer what they answer on etcd 3.7.3, run by either etcdctl.
func TestDowngradeCommands(t *testing.T) {
	t.Parallel()
	members := []*process.Member{single(t, ours(t)), single(t, stock(t, "etcd37"))}
	for _, m := range members {
		m.Serve()
		versions(t, m, "3.7.0", "3.7.0", false)
	}
	enabled := false
	for _, line := range []string{
		"validate 3.6", "validate 3.5", "validate 3.7.0", "validate x", "validate 3.6.9", "cancel", "enable 3.8", "enable 3.6", "enable 3.6", "validate 3.6", "cancel", "cancel",
	} {
		if enabled {
			// Either lowers the cluster's version some time after it was told to, and answers then by the lower one.
			for _, m := range members {
				versions(t, m, "3.6.0", "3.6.0", true)
			}
		}
		args := append([]string{"downgrade"}, strings.Fields(line)...)
		var got [2]process.Outcome
		for i, m := range members {
			got[i] = process.Tool(t, m.Program.Path("etcdctl"), "", append(process.CtlTimes(args...), "ETCDCTL_ENDPOINTS=http://"+m.ClientAddr), args...)
		}
		told := lastLine(got[0].Stderr) // etcd's client logs before it
		if got[0].Stdout != got[1].Stdout || got[0].Status != got[1].Status || told != lastLine(got[1].Stderr) {
			t.Errorf("%s: %+v, etcd %+v", line, got[0], got[1])
		}
		enabled = line == "enable 3.6" || enabled && line != "cancel"
	}
}

// lastLine gives the line that begins with "Error:", if any.
func lastLine(s string) string {
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "Error:") {
			return line
		}
	}
	return ""
}

// After a downgrade was enabled the directory of a single member opens in etcd 3.6, which ends the downgrade; and back again.
func TestDowngradeAndBack(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			m := single(t, ours(t), "--downgrade-check-time=1s")
			m.Serve()
			write(t, m, 0)
			versions(t, m, "3.7.0", "3.7.0", false)
			m.Ctl("downgrade", "enable", "3.6")
			versions(t, m, "3.6.0", "3.6.0", true)
			process.AwaitLog(m, "The server is ready to downgrade")
			write(t, m, 1)
			handOver(t, m, e, stock(t, "etcd36"))
			versions(t, m, "3.6.0", "3.6.0", false)
			write(t, m, 2)
			handOver(t, m, e, ours(t))
			versions(t, m, "3.7.0", "3.7.0", false)
			write(t, m, 3)
			handOver(t, m, e, stock(t, "etcd37"))
		})
	}
}

// A downgrade survives a restart of Keelson, is called off, and does not begin again. A member that is told to stay at 3.6
// does, and 3.6 opens its directory without more ado.
func TestDowngradeCanceled(t *testing.T) {
	t.Parallel()
	m := single(t, ours(t))
	m.Serve()
	write(t, m, 0)
	versions(t, m, "3.7.0", "3.7.0", false)
	m.Ctl("downgrade", "enable", "3.6")
	versions(t, m, "3.6.0", "3.6.0", true)
	handOver(t, m, ends[0], ours(t))
	versions(t, m, "3.6.0", "3.6.0", true)
	m.Ctl("downgrade", "cancel")
	versions(t, m, "3.7.0", "3.7.0", false)
	if out := m.Ctl("downgrade", "validate", "3.6"); out != "Downgrade validate success, cluster version 3.7\n" {
		t.Errorf("after the cancel: %s", out)
	}

	held := single(t, ours(t), "--max-cluster-version=3.6").Serve()
	versions(t, held, "3.6.0", "3.6.0", false)
	write(t, held, 0)
	held.Flags = nil
	handOver(t, held, ends[0], stock(t, "etcd36"))
}

// replace gives every member another program, one by one, while puts go on: some are acknowledged between two of them.
func (c *cluster) replace(to process.Program, how func(*process.Member), load *process.Load) {
	c.t.Helper()
	for _, m := range c.all {
		how(m)
		m.With(to).Serve()
		process.Until(c.t, "somebody leads", func() error {
			if c.leader() == nil {
				return errors.New("nobody")
			}
			return nil
		})
		load.Await(c.t, 50)
	}
}

// A cluster of three goes down to etcd 3.6 and up again, one member after the other, while writes go on.
func TestDowngradeRolling(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{t: t, all: process.Cluster(t, []process.Program{ours(t), ours(t), ours(t)}, "--downgrade-check-time=1s"), kinds: []string{"keelson"}}
			for _, m := range c.all {
				m.Start()
			}
			c.healthy()
			write(t, c.all[0], 0)
			for _, m := range c.all {
				versions(t, m, "3.7.0", "3.7.0", false)
			}
			down := process.StartLoad(t, process.Dial(t, c.all...), "down", 200)
			process.Until(t, "the downgrade is enabled", func() error { // an election may come in between
				if o := c.all[1].TryCtl("downgrade", "enable", "3.6"); o.Status != 0 && !strings.Contains(o.Stderr, "has a downgrade job in progress") {
					return fmt.Errorf("%+v", o)
				}
				return nil
			})
			for _, m := range c.all {
				versions(t, m, "3.6.0", "3.6.0", true)
			}
			c.replace(stock(t, "etcd36"), e.how, down)
			for _, m := range c.all {
				versions(t, m, "3.6.0", "3.6.0", false)
			}
			down.Stop()
			c.agree("at 3.6")
			up := process.StartLoad(t, process.Dial(t, c.all...), "up", 200)
			c.replace(ours(t), e.how, up)
			for _, m := range c.all {
				versions(t, m, "3.7.0", "3.7.0", false)
			}
			up.Stop()
			c.agree("back at 3.7")
			down.Check(t, c.all[2].Client())
			up.Check(t, c.all[0].Client())
		})
	}
}
