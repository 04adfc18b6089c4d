package server

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/vfs"
	"keelson/internal/replica/raftloop"
	"keelson/internal/state/lease"
)

// TestDeadlinesOfOneTerm checks that a leader's deadlines end with its term, also if it leads the next one again: the
// leader in between has renewed leases that the old deadlines would end.
func TestDeadlinesOfOneTerm(t *testing.T) {
	k := &leaseKeeper{table: lease.New(1, lease.Observer{}), clock: clock.System, extend: time.Second}
	at := func(lead, term uint64) raftloop.Status { return raftloop.Status{ID: 1, Lead: lead, Term: term} }
	for _, step := range []struct {
		what    string
		do      func()
		primary bool
	}{
		{"leading, nothing of the term applied", func() { k.follow(at(1, 5)) }, false},
		{"its first entry applied", func() { k.ledTerm.Store(5); k.promote(at(1, 5)) }, true},
		{"still leading", func() { k.follow(at(1, 5)) }, true},
		{"elected again, two terms later", func() { k.follow(at(1, 7)) }, false},
		{"a late signal of the old term", func() { k.promote(at(1, 7)) }, false},
		{"the new term's first entry applied", func() { k.ledTerm.Store(7); k.promote(at(1, 7)) }, true},
		{"deposed", func() { k.follow(at(2, 8)) }, false},
		{"a late signal after that", func() { k.ledTerm.Store(8); k.promote(at(2, 8)) }, false},
	} {
		step.do()
		if got := k.table.IsPrimary(); got != step.primary {
			t.Errorf("%s: primary is %v", step.what, got)
		}
	}
}

// TestCheckpoints checks that a leader notes what an idle lease has left, that the note outlives a restart and that a
// renewal takes it back; and that without the gate nothing is noted.
func TestCheckpoints(t *testing.T) {
	const ttl = 100
	for gate, wear := range map[string]time.Duration{"LeaseCheckpoint=true": time.Second, "LeaseCheckpoint=false": 0} {
		t.Run(gate, func(t *testing.T) {
			cfg := testConfig(t, t.TempDir(), "--feature-gates="+gate)
			m, err := New(cfg, smallDeps(vfs.OS, testLogger(t)))
			if err != nil {
				t.Fatal(err)
			}
			if on := m.workers.keeper.wear > 0; on != (wear > 0) {
				t.Errorf("the gate is on: %v", on)
			}
			m.workers.keeper.wear, m.workers.keeper.look = wear, time.Second/10
			m.Start()
			<-m.Ready()
			eventually(t, m, "the first versions", at(m, "3.7.0", "3.7.0"))
			l, err := m.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 7, TTL: ttl})
			if err != nil {
				t.Fatal(err)
			}
			noted := func() int64 {
				l, _ := m.data.state.Leases.Lookup(l.ID)
				return l.Remaining
			}
			if wear == 0 {
				eventually(t, m, "some of its time to be gone", func() bool {
					left, ok := m.data.state.Leases.Remaining(l.ID, time.Now())
					return ok && left < ttl-1
				})
				if noted() != 0 {
					t.Errorf("noted %d without the gate", noted())
				}
				stop(t, m)
				return
			}
			eventually(t, m, "a checkpoint", func() bool { return noted() > 0 })
			if n := noted(); n >= ttl || n < ttl-30 {
				t.Errorf("noted %d of %d s", n, ttl)
			}
			stop(t, m)
			m = start(t, cfg)
			defer stop(t, m)
			if noted() == 0 {
				t.Error("the restart forgot the checkpoint")
			}
			if left, err := m.LeaseRenew(t.Context(), l.ID); err != nil || left != ttl || noted() != 0 {
				t.Errorf("renewed for %d s, %v, with %d still noted", left, err, noted())
			}
		})
	}
}
