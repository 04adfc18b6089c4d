package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// remaining asks a cluster how long a lease has, waiting for a leader that knows.
func remaining(t *testing.T, c *clientv3.Client, id clientv3.LeaseID) int64 {
	t.Helper()
	var ttl int64
	process.Until(t, "somebody knows the lease", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r, err := c.TimeToLive(ctx, id)
		if err == nil {
			ttl = r.TTL
		}
		return err
	})
	return ttl
}

// Every new leader gives a lease its whole time again: no change of leaders, and no restart of all, ends one early; and it
// ends when nobody renews it.
func TestLeaseOverLeaders(t *testing.T) {
	t.Parallel()
	all := three(t)
	c := process.Dial(t, all...)
	const ttl = 4
	l, err := c.Grant(t.Context(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "leased", "v", clientv3.WithLease(l.ID)); err != nil {
		t.Fatal(err)
	}
	var began time.Time
	for round := range 3 {
		process.Until(t, "some of the lease's time is gone", func() error {
			if left := remaining(t, c, l.ID); left > ttl/2 {
				return context.DeadlineExceeded
			}
			return nil
		})
		began = time.Now() // no leader after this has led before it
		if round < 2 {
			gone := all[leader(t, all)]
			gone.Kill()
			if left := remaining(t, c, l.ID); left < ttl {
				t.Errorf("a new leader gives the lease %d s of %d", left, ttl)
			}
			gone.Serve()
			continue
		}
		for _, m := range all {
			m.Kill()
		}
		for _, m := range all {
			m.Start()
		}
		for _, m := range all {
			m.WaitHealthy()
		}
		if left := remaining(t, c, l.ID); left < ttl {
			t.Errorf("after a restart of all the lease has %d s of %d", left, ttl)
		}
	}
	process.Until(t, "the lease runs out", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := c.Get(ctx, "leased")
		if err == nil && r.Count > 0 {
			err = context.DeadlineExceeded
		}
		return err
	})
	if lived := time.Since(began); lived < ttl*time.Second {
		t.Errorf("the lease ended %v after the last leader went", lived)
	}
}

// Without a majority a write waits for etcd's time and fails with etcd's word for it; it is served again, by the same
// connection, when the majority is back.
func TestMajorityLost(t *testing.T) {
	t.Parallel()
	all := three(t)
	c := all[0].Client()
	if _, err := c.Put(t.Context(), "k", "before"); err != nil {
		t.Fatal(err)
	}
	all[1].Kill()
	all[2].Kill()
	ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
	defer cancel()
	start := time.Now()
	_, err := c.Put(ctx, "k", "lost")
	if err == nil || !strings.HasPrefix(err.Error(), "etcdserver: request timed out") {
		t.Errorf("a put without a majority: %v", err)
	}
	if took := time.Since(start); took < 5*time.Second || took > 15*time.Second {
		t.Errorf("it failed after %v, not etcd's 7 s", took)
	}
	short, end := context.WithTimeout(t.Context(), 2*time.Second) // the client asks again for as long as it may
	defer end()
	if _, err := c.Get(short, "k"); err == nil {
		t.Error("a linearizable read without a majority")
	}
	if r, err := c.Get(t.Context(), "k", clientv3.WithSerializable()); err != nil || string(r.Kvs[0].Value) != "before" {
		t.Errorf("a serializable read: %v, %v", r, err)
	}
	all[1].Start()
	process.Until(t, "writes are served again", func() error {
		one, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := c.Put(one, "k", "after")
		return err
	})
}
