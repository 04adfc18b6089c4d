package lease

import (
	"slices"
	"testing"
	"time"
)

func TestWorn(t *testing.T) {
	table := New(1, Observer{})
	zero := time.Unix(1000, 0)
	at := func(s int) time.Time { return zero.Add(time.Duration(s) * time.Second) }
	expect := func(s int, want ...Lease) {
		t.Helper()
		got := table.Worn(at(s), 300*time.Second)
		slices.SortFunc(got, func(a, b Lease) int { return int(a.ID - b.ID) })
		if !slices.Equal(got, want) {
			t.Errorf("after %d s: %v, want %v", s, got, want)
		}
	}
	for id, ttl := range map[int64]int64{1: 200, 2: 1000, 3: 1000, 4: 5000} {
		if _, err := table.Grant(id, ttl); err != nil {
			t.Fatal(err)
		}
	}
	expect(900) // nobody leads
	table.Promote(at(0), time.Second)
	table.Advance(at(0), 10)
	expect(300) // the extension counts
	if _, err := table.Renew(3, at(200)); err != nil {
		t.Fatal(err)
	}
	expect(301, Lease{2, 1000, 700}, Lease{4, 5000, 4700})
	for _, l := range table.Worn(at(301), 300*time.Second) {
		if err := table.Checkpoint(l.ID, l.Remaining); err != nil {
			t.Fatal(err)
		}
	}
	expect(302)
	expect(500, Lease{3, 1000, 700})
	expect(601, Lease{2, 1000, 400}, Lease{3, 1000, 599}, Lease{4, 5000, 4400})
	if _, err := table.Grant(5, 1000); err != nil {
		t.Fatal(err)
	}
	expect(1300, Lease{4, 5000, 3701}) // run out, or fresh
	table.Demote()
	expect(1300)
}
