package lease

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// twin is the dumb model: a map, and deadlines as times.
type twin struct {
	minTTL  int64
	leases  map[int64]*twinLease
	primary bool
}

type twinLease struct {
	Lease
	keys     map[string]bool
	deadline time.Time // zero: not started
	given    time.Time // when Advance gave it last
}

func (w *twin) left(l *twinLease) int64 {
	if l.Remaining > 0 {
		return l.Remaining
	}
	return l.TTL
}

func (w *twin) keys(id int64) (keys []string) {
	if l := w.leases[id]; l != nil {
		for k := range l.keys {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// pair runs one step on the table and on the twin.
type pair struct {
	t     *testing.T
	table *Table
	twin  twin
	now   time.Time
	rng   *rand.Rand
}

func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for round := range 30 {
		t.Run(fmt.Sprintf("seed=%d", seed+uint64(round)), func(t *testing.T) {
			p := &pair{
				t: t, table: New(2, Observer{}), now: time.Unix(1000, 0),
				twin: twin{minTTL: 2, leases: map[int64]*twinLease{}},
				rng:  rand.New(rand.NewPCG(seed+uint64(round), 1)),
			}
			for range 2000 {
				p.step()
				if t.Failed() {
					return
				}
			}
		})
	}
}

func (p *pair) step() {
	id := int64(p.rng.IntN(40)) - 3
	key := fmt.Sprint("k", p.rng.IntN(30))
	switch p.rng.IntN(20) {
	case 0, 1, 2:
		p.grant(id)
	case 3, 4, 5, 6:
		p.table.Attach(id, []byte(key))
		if l := p.twin.leases[id]; l != nil {
			l.keys[key] = true
		}
	case 7:
		p.table.Detach(id, []byte(key))
		if l := p.twin.leases[id]; l != nil {
			delete(l.keys, key)
		}
	case 8:
		p.revoke(id)
	case 9:
		remaining := p.rng.Int64N(5)
		err := p.table.Checkpoint(id, remaining)
		if l := p.twin.leases[id]; l != nil {
			l.Remaining = remaining
		} else if !errors.Is(err, ErrNotFound) {
			p.t.Errorf("checkpoint of nothing: %v", err)
		}
	case 10, 11, 12:
		p.renew(id)
	case 13, 14, 15, 16:
		p.now = p.now.Add(time.Duration(p.rng.IntN(700)) * time.Millisecond)
		p.advance()
	case 17:
		p.turn()
	default:
		p.look(id)
	}
}

func (p *pair) grant(id int64) {
	ttl := p.rng.Int64N(8) - 1
	if p.rng.IntN(10) == 0 {
		ttl = TTLMax + p.rng.Int64N(2)
	}
	l, err := p.table.Grant(id, ttl)
	var want error
	switch {
	case id == 0:
		want = ErrNotFound
	case ttl > TTLMax:
		want = ErrTTLTooLarge
	case p.twin.leases[id] != nil:
		want = ErrExists
	default:
		wl := Lease{ID: id, TTL: max(ttl, p.twin.minTTL)}
		p.twin.leases[id] = &twinLease{Lease: wl, keys: map[string]bool{}}
		if l != wl {
			p.t.Errorf("grant %d for %d: %v, want %v", id, ttl, l, wl)
		}
	}
	if !errors.Is(err, want) {
		p.t.Errorf("grant %d for %d: %v, want %v", id, ttl, err, want)
	}
}

func (p *pair) revoke(id int64) {
	gone := p.table.WaitRevoked(id)
	keys, err := p.table.Revoke(id)
	want := p.twin.keys(id)
	if p.twin.leases[id] == nil != errors.Is(err, ErrNotFound) {
		p.t.Errorf("revoke %d: %v", id, err)
	}
	if !slices.EqualFunc(keys, want, func(a []byte, b string) bool { return string(a) == b }) {
		p.t.Errorf("revoke %d: keys %q, want %q", id, keys, want)
	}
	delete(p.twin.leases, id)
	<-gone
}

func (p *pair) renew(id int64) {
	ttl, err := p.table.Renew(id, p.now)
	l := p.twin.leases[id]
	var want error
	switch {
	case !p.twin.primary:
		want = ErrNotPrimary
	case l == nil:
		want = ErrNotFound
	case !l.deadline.IsZero() && !l.deadline.After(p.now):
		want = ErrExpired
	default:
		l.deadline = p.now.Add(time.Duration(l.TTL) * time.Second)
		if ttl != l.TTL {
			p.t.Errorf("renew %d: %d, want %d", id, ttl, l.TTL)
		}
	}
	if !errors.Is(err, want) {
		p.t.Errorf("renew %d: %v, want %v", id, err, want)
	}
}

// advance checks that what is given has run out, and what is not given has not, but for the wheel's tick.
func (p *pair) advance() {
	limit := 1000
	if p.rng.IntN(4) == 0 {
		limit = p.rng.IntN(3)
	}
	given := p.table.Advance(p.now, limit)
	if len(given) > limit || !p.twin.primary && len(given) > 0 {
		p.t.Errorf("advance gave %d, limit %d, primary %v", len(given), limit, p.twin.primary)
	}
	for _, l := range p.twin.leases {
		if !p.twin.primary {
			break
		}
		if l.deadline.IsZero() {
			l.deadline = p.now.Add(time.Duration(l.TTL) * time.Second)
		}
		was := slices.Contains(given, l.ID)
		late := p.now.Sub(l.deadline)
		rested := l.given.IsZero() || p.now.Sub(l.given) >= RetryInterval+wheelTick
		switch {
		case was && late < 0:
			p.t.Errorf("lease %d given %v too early", l.ID, -late)
		case was && !l.given.IsZero() && p.now.Sub(l.given) < RetryInterval:
			p.t.Errorf("lease %d given again too early", l.ID)
		case !was && limit == 1000 && late >= wheelTick && rested:
			p.t.Errorf("lease %d is %v late", l.ID, late)
		}
		if was {
			l.given = p.now
		}
	}
}

// turn promotes, demotes or resets.
func (p *pair) turn() {
	gone := p.table.WaitRevoked(int64(p.rng.IntN(40)) - 3)
	switch p.rng.IntN(8) {
	case 0:
		p.table.Reset()
		p.twin.leases, p.twin.primary = map[int64]*twinLease{}, false
		<-gone
	case 1, 2:
		p.table.Demote()
		p.twin.primary = false
		<-gone
	default:
		extend := time.Duration(p.rng.IntN(2000)) * time.Millisecond
		p.table.Promote(p.now, extend)
		p.twin.primary = true
		for _, l := range p.twin.leases {
			l.deadline = p.now.Add(time.Duration(p.twin.left(l))*time.Second + extend)
			l.given = time.Time{}
		}
		<-gone
	}
	if p.table.IsPrimary() != p.twin.primary {
		p.t.Errorf("primary: %v", p.table.IsPrimary())
	}
}

func (p *pair) look(id int64) {
	got, ok := p.table.Lookup(id)
	l := p.twin.leases[id]
	if ok != (l != nil) || ok && got != l.Lease {
		p.t.Errorf("lookup %d: %v %v", id, got, ok)
	}
	keys := p.table.Keys(id)
	if !slices.EqualFunc(keys, p.twin.keys(id), func(a []byte, b string) bool { return string(a) == b }) {
		p.t.Errorf("keys of %d: %q", id, keys)
	}
	left, ok := p.table.Remaining(id, p.now)
	if ok != (l != nil && p.twin.primary) {
		p.t.Errorf("remaining of %d: %v", id, ok)
	}
	if ok {
		want := l.TTL
		if !l.deadline.IsZero() {
			want = int64(l.deadline.Sub(p.now).Seconds())
		}
		if left != want {
			p.t.Errorf("remaining of %d: %d, want %d", id, left, want)
		}
	}
	p.list()
}

func (p *pair) list() {
	all := p.table.All()
	if len(all) != len(p.twin.leases) || p.table.Len() != len(all) {
		p.t.Errorf("%d leases, Len %d, want %d", len(all), p.table.Len(), len(p.twin.leases))
		return
	}
	sorted := slices.IsSortedFunc(all, func(a, b Lease) int {
		la, lb := p.twin.leases[a.ID], p.twin.leases[b.ID]
		if p.twin.primary {
			if la.deadline.IsZero() || lb.deadline.IsZero() {
				return 0 // where a lease of no age comes is not said to the tick
			}
			return cmp.Or(la.deadline.Compare(lb.deadline), cmp.Compare(a.ID, b.ID))
		}
		return cmp.Compare(a.ID, b.ID)
	})
	if !sorted {
		p.t.Errorf("leases out of order: %v", all)
	}
}

// TestSpread promotes many leases with one time to live and counts how many run out in each second.
func TestSpread(t *testing.T) {
	const leases = 10 * expiriesPerSecond
	table := New(1, Observer{})
	for id := int64(1); id <= leases; id++ {
		table.Load(Lease{ID: id, TTL: 5})
	}
	now := time.Unix(0, 0)
	table.Promote(now, time.Second)
	seen := 0
	for second := range 16 {
		given := table.Advance(now.Add(time.Duration(second)*time.Second), leases)
		for _, id := range given {
			if _, err := table.Revoke(id); err != nil {
				t.Fatal(err)
			}
		}
		if len(given) > expiriesPerSecond || second < 6 && len(given) > 0 {
			t.Errorf("second %d: %d expired", second, len(given))
		}
		seen += len(given)
	}
	if seen != leases {
		t.Errorf("%d of %d expired", seen, leases)
	}
}

// TestLongAway leaves the wheel alone for hours, past its horizon.
func TestLongAway(t *testing.T) {
	table, start := New(1, Observer{}), time.Unix(0, 0)
	for id := int64(1); id <= 100; id++ {
		table.Load(Lease{ID: id, TTL: id * 100})
	}
	table.Promote(start, 0)
	for _, at := range []int64{0, 150, 5000, 9990, 20000} {
		for _, later := range []time.Duration{0, RetryInterval} {
			for _, id := range table.Advance(start.Add(time.Duration(at)*time.Second+later), 1000) {
				if id*100 > at+3 {
					t.Errorf("lease %d given at %d s", id, at)
				}
				if _, err := table.Revoke(id); err != nil {
					t.Errorf("lease %d given twice", id)
				}
			}
		}
		if want := int(max(0, 100-at/100)); table.Len() != want {
			t.Errorf("%d leases at %d s, want %d", table.Len(), at, want)
		}
	}
}

// TestRace has everybody at once: the apply goroutine, renewers, lookers, an expirer, changes of leader.
func TestRace(t *testing.T) {
	const ids, steps = 64, 3000
	table, start := New(1, Observer{}), time.Unix(0, 0)
	var wg sync.WaitGroup
	run := func(seed uint64, f func(rng *rand.Rand, now time.Time)) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 2))
			for i := range steps {
				f(rng, start.Add(time.Duration(i)*10*time.Millisecond))
			}
		})
	}
	run(1, func(rng *rand.Rand, _ time.Time) {
		id := 1 + rng.Int64N(ids)
		_, _ = table.Grant(id, 1)
		table.Attach(id, []byte{byte(rng.IntN(20))})
		table.Detach(id, []byte{byte(rng.IntN(20))})
		if rng.IntN(3) == 0 {
			_, _ = table.Revoke(id)
		}
	})
	for seed := range uint64(2) {
		run(2+seed, func(rng *rand.Rand, now time.Time) {
			id := 1 + rng.Int64N(ids)
			_, _ = table.Renew(id, now)
			table.Remaining(id, now)
			table.Lookup(id)
			table.Keys(id)
			if rng.IntN(100) == 0 {
				table.All()
			}
		})
	}
	run(4, func(_ *rand.Rand, now time.Time) { table.Advance(now, 10) })
	run(5, func(rng *rand.Rand, now time.Time) {
		switch rng.IntN(50) {
		case 0:
			table.Demote()
		case 1:
			table.Promote(now, time.Second)
		}
	})
	wg.Wait()
	if len(table.All()) != table.Len() {
		t.Errorf("%d leases, Len %d", len(table.All()), table.Len())
	}
}
