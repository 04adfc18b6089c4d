package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// stuff puts large values until one is refused for want of space.
func stuff(t *testing.T, c *clientv3.Client) {
	t.Helper()
	value := strings.Repeat("x", 100_000)
	for i := range 2000 {
		_, err := process.Answered(t, func() (*clientv3.PutResponse, error) { return c.Put(t.Context(), fmt.Sprintf("fill/%d", i), value) })
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("200 MB fit in a small quota")
}

// full checks that nothing that grows the store passes at a member, and that it says so.
func full(t *testing.T, m *process.Member) {
	t.Helper()
	c := m.Client()
	if _, err := c.Put(t.Context(), "more", ""); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("%s: a put: %v", m.Name, err)
	}
	if _, err := c.Txn(t.Context()).Then(clientv3.OpPut("more", "")).Commit(); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("%s: a transaction: %v", m.Name, err)
	}
	if _, err := c.Grant(t.Context(), 60); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("%s: a lease: %v", m.Name, err)
	}
	if _, err := c.Get(t.Context(), "fill/0"); err != nil {
		t.Errorf("%s: a read: %v", m.Name, err)
	}
	if out := m.Ctl("alarm", "list"); !strings.Contains(out, "alarm:NOSPACE") {
		t.Errorf("%s: alarm list: %q", m.Name, out)
	}
	if out := m.Ctl("endpoint", "status"); !strings.Contains(out, "alarm:NOSPACE") {
		t.Errorf("%s: status: %q", m.Name, out)
	}
	if body, err := m.HTTP("/health"); err == nil || !strings.Contains(err.Error(), "ALARM NOSPACE") {
		t.Errorf("%s: /health: %v %v", m.Name, body, err)
	}
}

// A cluster at its quota refuses what grows it, on every member and over restarts, and no more; deletes, a compaction,
// defragmentations and a cleared alarm make room again.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	all := three(t, "--quota-backend-bytes=8000000", steady)
	c := process.Dial(t, all...)
	lease, err := c.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	stuff(t, c)
	for _, m := range all {
		full(t, m)
	}
	follower := all[(leader(t, all)+1)%3]
	follower.Kill()
	follower.Serve()
	full(t, follower)

	resp, err := c.Txn(t.Context()).Then(clientv3.OpDelete("fill/", clientv3.WithPrefix())).Commit()
	if err != nil {
		t.Fatal("a transaction that deletes: ", err)
	}
	if _, err := c.Delete(t.Context(), "none"); err != nil {
		t.Error("a delete: ", err)
	}
	if _, err := c.Revoke(t.Context(), lease.ID); err != nil {
		t.Error("a revocation: ", err)
	}
	if _, err := c.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Error("a compaction: ", err)
	}
	for _, m := range all {
		// Only the member that was asked has waited until the compaction was through its file.
		process.Until(t, m.Name+" is small after a defragmentation", func() error {
			m.Ctl("defrag")
			s, err := m.Client().Status(t.Context(), m.ClientAddr)
			if err == nil && s.DbSize > 1_000_000 {
				err = fmt.Errorf("%d bytes", s.DbSize)
			}
			return err
		})
	}
	if out := follower.Ctl("alarm", "disarm"); !strings.Contains(out, "alarm:NOSPACE") {
		t.Errorf("alarm disarm: %q", out)
	}
	for _, m := range all {
		m.Ctl("put", "by/"+m.Name, "x")
		if out := m.Ctl("alarm", "list"); out != "" {
			t.Errorf("%s: alarm list: %q", m.Name, out)
		}
		m.WaitHealthy()
	}
}

// A member whose quota is smaller than the others' raises the alarm for what they let in.
func TestSmallerQuota(t *testing.T) {
	t.Parallel()
	all := process.Cluster(t, []process.Program{keelson, keelson, keelson})
	all[2].Flags = []string{"--quota-backend-bytes=4000000"}
	for _, m := range all {
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	stuff(t, all[0].Client())
	s, err := all[2].Client().Status(t.Context(), all[2].ClientAddr)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("memberID:%d alarm:NOSPACE\n", s.Header.MemberId)
	if out := all[1].Ctl("alarm", "list"); out != want {
		t.Errorf("alarm list: %q, want %q", out, want)
	}
}

// History goes by itself, by time and by revisions kept, with no false alarm of the checks that run beside it.
func TestAutoCompaction(t *testing.T) {
	t.Parallel()
	all := three(t, "--auto-compaction-retention=1s", "--corrupt-check-time=100ms", "--compact-hash-check-time=200ms", "--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true")
	c := process.Dial(t, all...)
	load := process.StartLoad(t, c, "load", 300)
	var churn sync.WaitGroup
	defer churn.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	churn.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = c.Put(ctx, fmt.Sprint("churn/", i%100), "x") // what fails while a member is down does no harm
			if i%10 == 0 {
				_, _ = c.Delete(ctx, fmt.Sprint("churn/", (i+50)%100))
			}
		}
	})
	process.Until(t, "the first revisions are gone", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := all[0].Client().Get(ctx, "load/00000000", clientv3.WithRev(2)); !errors.Is(err, rpctypes.ErrCompacted) {
			return fmt.Errorf("reading them: %w", err)
		}
		return nil
	})
	lead := all[leader(t, all)]
	for _, act := range []func(){
		func() { lead.Ctl("defrag") },
		func() { lead.Stop() },
		func() { lead.Serve() },
		func() { lead.Ctl("defrag") },
		func() { lead.Kill() },
		func() { lead.Serve() },
	} {
		act()
		load.Await(t, 300)
	}
	load.Stop()
	for _, m := range all {
		if out := m.Ctl("alarm", "list"); out != "" {
			t.Errorf("a false alarm: %q", out)
		}
	}
	if !strings.Contains(lead.Log(), "starting initial corruption check") {
		t.Errorf("%s did not check at its start", lead.Name)
	}
	process.Until(t, "both checks have found all well", func() error {
		log := all[leader(t, all)].Log()
		for _, line := range []string{"finished peer corruption check", "successfully checked hash on whole cluster"} {
			if !strings.Contains(log, line) {
				return errors.New("no line " + line)
			}
		}
		return nil
	})
}
