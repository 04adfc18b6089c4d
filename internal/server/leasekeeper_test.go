package server

import (
	"testing"
	"time"

	"keelson/internal/kit/clock"
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
