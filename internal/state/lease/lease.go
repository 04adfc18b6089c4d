// Package lease keeps the leases: their times to live, the keys attached to them and, on the leader, when
// they run out.
//
// The leases themselves are replicated state, changed by the apply goroutine alone (Grant, Load, Attach,
// Detach, Checkpoint, Revoke, Reset). Deadlines are not replicated: only a primary (the raft leader) has
// them, from Promote to Demote. The table reads no clock: whoever renews or asks for expired leases passes
// the time. It writes nothing to disk and starts no goroutine.
//
// Leases are spread over shards by their number. A shard is a map and a timing wheel under one mutex, held
// for a few dozen nanoseconds to grant, renew or attach. Renewing only moves the deadline in the record; the
// wheel looks at the record again when its old slot comes round and files it anew. So granting, renewing and
// expiring cost O(1) each, and no call ever walks all leases under one hold of a lock.
package lease

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// TTLMax is the longest time to live that may be granted, in seconds. It is etcd's limit: as nanoseconds it
// still fits an int64.
const TTLMax = 9_000_000_000

var (
	// ErrNotFound is returned when no lease has the number; number 0 names no lease, not even to Grant.
	ErrNotFound = errors.New("lease: not found")
	// ErrExists is returned when a lease with the number is there already.
	ErrExists = errors.New("lease: already exists")
	// ErrTTLTooLarge is returned when a time to live is above TTLMax.
	ErrTTLTooLarge = errors.New("lease: time to live is too large")
	// ErrNotPrimary is returned when this table has no deadlines, because the member does not lead.
	ErrNotPrimary = errors.New("lease: not the primary")
	// ErrExpired is returned by Renew when the lease has run out and waits for its revoke: the caller waits
	// on WaitRevoked and asks again.
	ErrExpired = errors.New("lease: expired, not yet revoked")
)

// Lease is the replicated part of a lease. TTL is in seconds. Remaining is the last checkpoint of what is
// left of it, in seconds, 0 for none.
type Lease struct{ ID, TTL, Remaining int64 }

// primacy is one stretch of leading. Deadlines are counted from at.
type primacy struct {
	epoch  uint32
	at     time.Time
	extend time.Duration
}

// Observer is told what happens to leases. Nil fields are not called.
type Observer struct {
	Granted          func(ttl int64)
	Revoked, Renewed func()
}

// Table holds all leases. All methods may be called from any goroutine; the changing ones are meant for the
// apply goroutine.
type Table struct {
	minTTL  int64
	count   atomic.Int64
	primary atomic.Bool

	// turns orders Promote, Demote and Reset, and guards epoch.
	turns sync.Mutex
	epoch uint32

	// advancing is held by Advance, and guards first, spread and spreadEpoch.
	advancing   sync.Mutex
	first       int
	spread      *spread
	spreadEpoch uint32

	observer Observer
	shards   [shardCount]shard
}

// New gives an empty table. Times to live below minTTL seconds are raised to it.
func New(minTTL int64, o Observer) *Table {
	t := &Table{minTTL: minTTL, observer: o}
	for i := range t.shards {
		t.shards[i].records = make(map[int64]*record)
	}
	return t
}

// Grant adds a lease of ttl seconds. On a primary its time starts at the next Advance or Renew.
func (t *Table) Grant(id, ttl int64) (Lease, error) {
	if id == 0 {
		return Lease{}, ErrNotFound
	}
	if ttl > TTLMax {
		return Lease{}, ErrTTLTooLarge
	}
	l := Lease{ID: id, TTL: max(ttl, t.minTTL)}
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records[id] != nil {
		return Lease{}, ErrExists
	}
	s.add(l)
	t.count.Add(1)
	if t.observer.Granted != nil {
		t.observer.Granted(l.TTL)
	}
	return l, nil
}

// Load adds a lease read from the store, replacing one of the same number.
func (t *Table) Load(l Lease) {
	l.TTL = max(l.TTL, t.minTTL)
	s := t.shard(l.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.records[l.ID]; old != nil {
		s.drop(old)
		t.count.Add(-1)
	}
	s.add(l)
	t.count.Add(1)
}

// Attach ties key to the lease. It does not untie it from another: the caller calls Detach for that. A lease
// that is gone is passed over.
func (t *Table) Attach(id int64, key []byte) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.records[id]; r != nil {
		if r.keys == nil {
			r.keys = new(keySet)
		}
		r.keys.add(key)
	}
}

// Detach unties key from the lease. A lease that is gone, as after Revoke, is passed over.
func (t *Table) Detach(id int64, key []byte) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.records[id]; r != nil && r.keys != nil && r.keys.remove(key) == 0 {
		r.keys = nil
	}
}

// Revoke takes the lease away and gives the keys that were attached, in byte order: the caller deletes them
// in the same revision. Who waits in WaitRevoked is woken now, before the view without the keys is
// published, so an answer to a client has to wait for that.
func (t *Table) Revoke(id int64) ([][]byte, error) {
	s := t.shard(id)
	s.mu.Lock()
	r := s.records[id]
	if r == nil {
		s.mu.Unlock()
		return nil, ErrNotFound
	}
	t.count.Add(-1) // before whoever waits for it is woken
	s.drop(r)
	s.mu.Unlock()
	if t.observer.Revoked != nil {
		t.observer.Revoked()
	}
	return r.keys.sorted(), nil
}

// Checkpoint notes how many seconds the lease has left (0: its whole time again). The next Promote counts
// from it. ErrNotFound where the lease is gone; etcd passes over that.
func (t *Table) Checkpoint(id, remaining int64) error {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		return ErrNotFound
	}
	if s.term != nil && !s.filed(r) {
		s.renew(r, s.deadline(r)) // counted from the checkpoint before
	}
	r.remaining = remaining
	return nil
}

// Lookup gives the lease, false where there is none.
func (t *Table) Lookup(id int64) (Lease, bool) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		return Lease{}, false
	}
	return r.lease(), true
}

// Keys gives the keys attached to the lease, in byte order.
func (t *Table) Keys(id int64) [][]byte {
	s := t.shard(id)
	s.mu.Lock()
	var keys *keySet
	if r := s.records[id]; r != nil && r.keys != nil {
		keys = r.keys.clone()
	}
	s.mu.Unlock()
	return keys.sorted()
}

// EachKey calls f with the keys attached to the lease, in no order, until it fails. f must not call the table.
func (t *Table) EachKey(id int64, f func(key []byte) error) error {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil || r.keys == nil {
		return nil
	}
	return r.keys.each(f)
}

// All gives every lease, the one that runs out first first; those with equal deadlines, and all of them on a
// member that does not lead, by number.
func (t *Table) All() []Lease {
	type dated struct {
		Lease
		deadline time.Duration
	}
	all := make([]dated, 0, t.Len())
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, r := range s.records {
			all = append(all, dated{r.lease(), s.listDeadline(r)})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b dated) int {
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.ID, b.ID))
	})
	leases := make([]Lease, len(all))
	for i := range all {
		leases[i] = all[i].Lease
	}
	return leases
}

// Len tells how many leases there are.
func (t *Table) Len() int { return int(t.count.Load()) }

// IsPrimary tells whether the table has deadlines.
func (t *Table) IsPrimary() bool { return t.primary.Load() }

// Promote gives every lease a deadline: now, plus what its last checkpoint left of it or its whole time,
// plus extend. The deadlines are worked out as they are needed, so this costs the same for any number of
// leases; the next Advance files them, and spreads them where very many would run out together.
func (t *Table) Promote(now time.Time, extend time.Duration) {
	t.turns.Lock()
	defer t.turns.Unlock()
	t.epoch++
	p := &primacy{epoch: t.epoch, at: now, extend: extend}
	for i := range t.shards {
		t.shards[i].begin(p)
	}
	t.primary.Store(true)
}

// Demote forgets all deadlines and wakes whoever waits in WaitRevoked.
func (t *Table) Demote() {
	t.turns.Lock()
	defer t.turns.Unlock()
	t.primary.Store(false)
	for i := range t.shards {
		t.shards[i].end()
	}
}

// Reset drops every lease and demotes, before the leases of an installed snapshot are loaded.
func (t *Table) Reset() {
	t.Demote()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		t.count.Add(-int64(len(s.records)))
		s.records = make(map[int64]*record)
		s.mu.Unlock()
	}
}

// Renew starts the lease's time again from now and gives that time in seconds. ErrNotPrimary, ErrNotFound,
// ErrExpired.
func (t *Table) Renew(id int64, now time.Time) (int64, error) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil {
		return 0, ErrNotPrimary
	}
	r := s.records[id]
	if r == nil {
		return 0, ErrNotFound
	}
	at := now.Sub(s.term.at)
	if s.expired(r, at) {
		return 0, ErrExpired
	}
	s.renew(r, after(at, r.ttl))
	if t.observer.Renewed != nil {
		t.observer.Renewed()
	}
	return r.ttl, nil
}

// WaitRevoked gives a channel that is closed once the lease is revoked, or this table is no longer primary:
// Renew then tells which. It is closed already where neither can still happen.
func (t *Table) WaitRevoked(id int64) <-chan struct{} {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil || s.records[id] == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	gone := s.waits[id]
	if gone == nil {
		gone = make(chan struct{})
		s.waits[id] = gone
	}
	return gone
}

// Remaining gives the whole seconds that the lease has left; nothing or less where it waits for its revoke.
// False where there is no such lease, or no deadline because this table is not primary.
func (t *Table) Remaining(id int64, now time.Time) (int64, bool) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil || s.term == nil {
		return 0, false
	}
	if s.fresh(r) {
		return r.ttl, true
	}
	return int64((s.deadline(r) - now.Sub(s.term.at)) / time.Second), true
}

// Advance gives at most limit leases that have run out by now. A lease that is still there RetryInterval
// later is given again. It gives nothing on a table that is not primary.
func (t *Table) Advance(now time.Time, limit int) []int64 {
	t.advancing.Lock()
	defer t.advancing.Unlock()
	var expired []int64
	for i := range t.shards {
		s := &t.shards[(t.first+i)%shardCount]
		expired = t.advanceShard(s, now, limit, expired)
	}
	t.first = (t.first + 1) % shardCount
	return expired
}

func (t *Table) advanceShard(s *shard, now time.Time, limit int, expired []int64) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil {
		return expired
	}
	if s.unfiled {
		if t.spread == nil || t.spreadEpoch != s.term.epoch {
			t.spread, t.spreadEpoch = newSpread(t.Len()), s.term.epoch
		}
		s.fileAll(t.spread)
	}
	if s.term == nil {
		return expired
	}
	at := now.Sub(s.term.at)
	s.fileFresh(at)
	return s.expire(at, limit, expired)
}

func (t *Table) shard(id int64) *shard {
	const golden = 0x9E3779B97F4A7C15 // 2^64 / phi: numbers that count up land on all shards
	return &t.shards[uint64(id)*golden>>(64-shardBits)]
}

// after gives at plus ttl seconds, at most the largest duration: TTLMax leaves room for seven years of
// leading before that matters.
func after(at time.Duration, ttl int64) time.Duration {
	d := time.Duration(ttl) * time.Second
	if at > 0 && d > math.MaxInt64-at {
		return math.MaxInt64
	}
	return at + d
}
