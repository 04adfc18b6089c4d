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

// whole checks that a lease was given its whole time again after began, from what was left of it just now. How long the answer
// took is counted: without its whole time the lease has less all the same.
func whole(t *testing.T, left, ttl int64, began time.Time) {
	t.Helper()
	took := time.Since(began)
	if need := ttl - int64((took+time.Second-1)/time.Second); left < need {
		t.Errorf("%v after the last leader went the lease has %d s of %d", took, left, ttl)
	}
}

// Every new leader gives a lease its whole time again: no change of leaders, and no restart of all, ends one early; and it
// ends when nobody renews it.
func TestLeaseOverLeaders(t *testing.T) {
	t.Parallel()
	all := three(t)
	c := process.Dial(t, all...)
	const ttl, gone = 8, 2 // a machine that stalls for some seconds ends no lease
	l, err := process.Answered(t, func() (*clientv3.LeaseGrantResponse, error) { return c.Grant(t.Context(), ttl) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := process.Answered(t, func() (*clientv3.PutResponse, error) {
		return c.Put(t.Context(), "leased", "v", clientv3.WithLease(l.ID))
	}); err != nil {
		t.Fatal(err)
	}
	var began time.Time
	for round := range 3 {
		process.Until(t, "some of the lease's time is gone", func() error {
			if left := remaining(t, c, l.ID); left > ttl-gone {
				return context.DeadlineExceeded
			}
			return nil
		})
		began = time.Now() // no leader after this has led before it
		if round < 2 {
			dead := all[leader(t, all)]
			dead.Kill()
			whole(t, remaining(t, c, l.ID), ttl, began)
			dead.Serve()
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
		whole(t, remaining(t, c, l.ID), ttl, began)
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
	put(t, c, "k", "before")
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
