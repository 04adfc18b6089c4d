package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

const (
	// cutTime is how long the leader is cut off: many election time-outs.
	cutTime = 10 * time.Second
	// cutRate is the puts a second that a client outside begins meanwhile.
	cutRate = 200
	// askTime is what a question to the member that is cut off gets: it is answered in milliseconds, or not at all.
	askTime = time.Second
)

// The leader's cable is pulled for ten seconds under load, three members on three hosts: the majority serves, the leader
// that was answers neither writes nor linearizable reads but serializable ones, and catches up afterwards. Nothing that
// was acknowledged is lost and all members hold the same.
func TestLeaderCutOff(t *testing.T) {
	long(t)
	t.Parallel()
	hosts := process.Hosts(t, 4)
	all := process.Spread(t, keelson, hosts[:3])
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	outside := process.DialFrom(t, &hosts[3].Place, all...)
	load := process.StartLoad(t, outside, "cut", cutRate)
	load.Await(t, cutRate)
	lead := leader(t, all)
	cut, survivor := all[lead], all[(lead+1)%3]
	cut.Ctl("put", "seen", "before")
	hosts[lead].Cut()
	over := time.After(cutTime)
	survivors := process.DialFrom(t, &hosts[3].Place, survivor, all[(lead+2)%3])
	process.Until(t, "the majority accepts a write", func() error {
		return asked(t, func(ctx context.Context) error {
			_, err := survivors.Put(ctx, "seen", "by the majority")
			return err
		})
	})
	minority(t, cut)
	load.Await(t, 2*cutRate)
	minority(t, cut)
	<-over
	if now := leader(t, []*process.Member{survivor, all[(lead+2)%3]}); now < 0 {
		t.Error("the majority has no leader")
	}
	hosts[lead].Mend()
	process.Until(t, "the member that was cut off shows what the majority wrote", func() error {
		return asked(t, func(ctx context.Context) error {
			_, err := cut.Client().Put(ctx, "seen", "by all")
			return err
		})
	})
	load.Await(t, cutRate)
	load.Stop()
	n := load.Check(t, outside)
	t.Logf("%d puts acknowledged, %d not; the slowest took %v", n, len(load.Failed), load.Slowest)
	if out := cut.Ctl("get", "seen", "--print-value-only"); out != "by all\n" {
		t.Errorf("the member that was cut off reads %q", out)
	}
	agreeOnHash(t, all)
	for _, m := range all {
		m.Stop()
	}
}

// minority looks at a member without a majority, from its own host.
func minority(t *testing.T, m *process.Member) {
	t.Helper()
	c := m.Client()
	defer c.Close()
	for what, ask := range map[string]func(context.Context) error{
		"a write":             func(ctx context.Context) error { _, err := c.Put(ctx, "seen", "by the minority"); return err },
		"a linearizable read": func(ctx context.Context) error { _, err := c.Get(ctx, "seen"); return err },
		"a transaction": func(ctx context.Context) error {
			_, err := c.Txn(ctx).Then(clientv3.OpPut("seen", "by the minority")).Commit()
			return err
		},
	} {
		if asked(t, ask) == nil {
			t.Errorf("the member that is cut off answers %s", what)
		}
	}
	if out := m.Ctl("get", "seen", "--consistency=s", "--print-value-only"); out != "before\n" {
		t.Errorf("a serializable read of the member that is cut off gives %q", out)
	}
	if o := m.TryCtl("get", "seen", "--command-timeout="+askTime.String()); o.Status == 0 || !strings.Contains(o.Stderr, "deadline exceeded") {
		t.Errorf("etcdctl get at the member that is cut off: %+v", o)
	}
}

// asked asks with little patience.
func asked(t *testing.T, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(t.Context(), askTime)
	defer cancel()
	return ask(ctx)
}
