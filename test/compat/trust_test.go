package compat

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

// hand has a member lead, without an election.
func (c *cluster) hand(to *process.Member) {
	c.t.Helper()
	process.Until(c.t, to.Name+" leads", func() error {
		now := c.leader()
		if now == to {
			return nil
		}
		client := now.Client()
		defer client.Close()
		ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
		defer cancel()
		_, err := client.MoveLeader(ctx, to.ID())
		return errors.Join(err, errors.New("asked for it"))
	})
}

// churn writes, deletes and compacts until it is told to end.
func churn(ctx context.Context, c *clientv3.Client) {
	for i := 0; ctx.Err() == nil; i++ {
		r, err := c.Put(ctx, fmt.Sprint("churn/", i%60), strings.Repeat("v", 100))
		if err != nil {
			continue // a member is down, or a leader changes
		}
		if i%7 == 0 {
			_, _ = c.Delete(ctx, fmt.Sprint("churn/", (i+30)%60))
		}
		if i%50 == 0 {
			_, _ = c.Compact(ctx, r.Header.Revision-10) // another one may be further
		}
		if i%500 == 0 {
			_, _ = c.Delete(ctx, "churn/", clientv3.WithPrefix())
			if r, err := c.Delete(ctx, "all"); err == nil {
				_, _ = c.Compact(ctx, r.Header.Revision)
			}
		}
	}
}

// Whoever leads, the checks of both kinds find nothing in members of both kinds that are written to, compacted, defragmented,
// stopped and killed.
func TestNoFalseAlarm(t *testing.T) {
	t.Parallel()
	c := formWith(t, []string{"--corrupt-check-time=100ms", "--compact-hash-check-time=100ms", "--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true"},
		"keelson", "etcd37", "keelson")
	client := process.Dial(t, c.all...)
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() { churn(ctx, client) })
	}
	defer busy.Wait()
	defer cancel()
	for _, lead := range c.all[:2] {
		c.hand(lead)
		before := strings.Count(lead.Log(), "finished peer corruption check")
		for i, m := range c.all {
			if m == lead {
				continue
			}
			m.Ctl("defrag")
			if i%2 == 0 {
				m.Kill()
			} else {
				m.Stop()
			}
			m.Serve()
		}
		process.Until(t, "ten checks were made", func() error {
			c.hand(lead) // who leads checks, and an election may come in between
			if n := strings.Count(lead.Log(), "finished peer corruption check") - before; n < 10 {
				return fmt.Errorf("%d checks", n)
			}
			if !strings.Contains(lead.Log(), "successfully checked hash on whole cluster") {
				return errors.New("none of a compaction")
			}
			return nil
		})
	}
	for _, m := range c.all {
		if out := m.Ctl("alarm", "list"); out != "" {
			t.Errorf("%s: a false alarm: %q", m.Program.Name, out)
		}
	}
}

// Damage in the file of a member of either kind is found by a leader of the other.
func TestDamageMixed(t *testing.T) {
	for _, kind := range []string{"keelson", "etcd37"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := formWith(t, []string{"--corrupt-check-time=300ms"}, "keelson", "etcd37", "keelson")
			c.puts("k", 20)
			if err := process.Settled(t, func() error {
				_, err := c.all[0].Client().Put(t.Context(), "rare", "a rare value, and there is no other")
				return err
			}); err != nil {
				t.Fatal(err)
			}
			c.agree("at first")
			bad, lead := c.all[0], c.all[1]
			if kind == "etcd37" {
				bad, lead = lead, bad
			}
			id := bad.ID()
			c.hand(lead)
			bad.Stop()
			bad.Damage("and there is no other")
			bad.Start()
			want := fmt.Sprintf("memberID:%d alarm:CORRUPT\n", id)
			process.Until(t, "the damage is found", func() error {
				out := strings.Join(strings.Fields(lead.Ctl("alarm", "list")), " ") + "\n" // etcd's has one space or two, by the build
				if out != want {
					return fmt.Errorf("alarm list: %q, want %q", out, want)
				}
				return nil
			})
			for _, m := range c.all {
				if err := process.Settled(t, func() error { _, err := m.Client().Put(t.Context(), "k", "v"); return err }); !errors.Is(err, rpctypes.ErrCorrupt) {
					t.Errorf("%s: a put: %v", m.Program.Name, err)
				}
			}
		})
	}
}

// One quota for members of both kinds: whoever refuses first, all refuse, and all go on when there is room again.
func TestNoSpaceMixed(t *testing.T) {
	t.Parallel()
	c := formWith(t, []string{"--quota-backend-bytes=6000000"}, "keelson", "etcd37", "etcd37")
	for round, through := range c.all[:2] {
		client := through.Client()
		value := strings.Repeat("x", 100_000)
		var err error
		for i := 0; i < 200 && err == nil; i++ {
			err = process.Settled(t, func() error { _, err := client.Put(t.Context(), fmt.Sprintf("fill/%d", i), value); return err })
		}
		if !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Fatalf("20 MB and a quota of 6: %v", err)
		}
		for _, m := range c.all {
			if err := process.Settled(t, func() error { _, err := m.Client().Put(t.Context(), "a", ""); return err }); !errors.Is(err, rpctypes.ErrNoSpace) {
				t.Errorf("round %d, %s: a put: %v", round, m.Program.Name, err)
			}
		}
		var r *clientv3.DeleteResponse
		if err := process.Settled(t, func() (err error) { r, err = client.Delete(t.Context(), "fill/", clientv3.WithPrefix()); return err }); err != nil {
			t.Fatal(err)
		}
		compact(t, client, r.Header.Revision)
		for _, m := range c.all {
			process.Until(t, m.Name+" has room", func() error { // it may compact after whom we asked did
				m.Ctl("defrag")
				s, err := c.status(m)
				if err == nil && s.DbSize > 3_000_000 {
					err = fmt.Errorf("%d bytes", s.DbSize)
				}
				return err
			})
		}
		c.all[1-round].Ctl("alarm", "disarm")
		for _, m := range c.all {
			if err := process.Settled(t, func() error { _, err := m.Client().Put(t.Context(), "a", ""); return err }); err != nil {
				t.Errorf("round %d, %s: a put again: %v", round, m.Program.Name, err)
			}
		}
	}
	c.agree("at the end")
}
