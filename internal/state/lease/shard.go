package lease

import (
	"math"
	"sync"
	"time"
)

const (
	// shardBits: 16 shards keep the renewals of a few cores apart; each has a wheel of its own, so more would
	// cost memory for nothing.
	shardBits  = 4
	shardCount = 1 << shardBits

	// wheelTick is how late the wheel may be, on top of how seldom Advance is called (every 500 ms in etcd).
	wheelTick = 100 * time.Millisecond
	// wheelSlots x wheelTick = 205 s ahead. A lease that runs out later waits in the farthest slot and is
	// looked at again there: a million leases of a year cost 5,000 looks a second. 16 x 2,048 x 8 B = 256 KiB
	// on a primary.
	wheelSlots = 2048
	wheelMask  = wheelSlots - 1
	// freshSlot lists the leases granted since the last Advance, whose time has not started.
	freshSlot = wheelSlots

	// RetryInterval is how long after Advance gave an expired lease it gives it again, if nobody revoked it:
	// etcd's figure.
	RetryInterval = 3 * time.Second

	// recordsPerHold is how many records are worked through before a shard's mutex is let go for a moment:
	// 1,024 x ~100 ns = 0.1 ms that the apply goroutine may wait.
	recordsPerHold = 1024
)

// record is one lease: 64 bytes, since there may be millions.
type record struct {
	id, ttl, remaining int64
	// deadline counts from the primacy's start; meaningful where epoch is the shard's and slot not freshSlot.
	deadline   time.Duration
	next, prev *record
	keys       *keySet
	// epoch names the primacy in which the record was put into the wheel; any other: it is in no slot.
	epoch uint32
	slot  int32
}

func (r *record) lease() Lease { return Lease{ID: r.id, TTL: r.ttl, Remaining: r.remaining} }

// shard holds the leases of one part of the number space.
type shard struct {
	// mu guards everything below.
	mu      sync.Mutex
	records map[int64]*record
	// term is nil where the table is not primary.
	term *primacy
	// waits has the channels that WaitRevoked gave out.
	waits map[int64]chan struct{}
	// slots are the heads of the wheel's lists. A record in slot n is due at tick n, modulo wheelSlots.
	slots []*record
	// cursor is the first tick not worked off. No record is ever filed at or before it while it is worked off.
	cursor int64
	// unfiled: the leases that were there at Promote are not in the wheel yet.
	unfiled bool
}

func (s *shard) add(l Lease) {
	r := &record{id: l.ID, ttl: l.TTL, remaining: l.Remaining}
	s.records[l.ID] = r
	if s.term != nil {
		r.epoch = s.term.epoch
		s.link(r, freshSlot)
	}
}

func (s *shard) drop(r *record) {
	delete(s.records, r.id)
	if s.filed(r) {
		s.unlink(r)
	}
	if gone := s.waits[r.id]; gone != nil {
		close(gone)
		delete(s.waits, r.id)
	}
}

func (s *shard) begin(p *primacy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	s.term, s.unfiled, s.cursor = p, true, 0
	s.slots = make([]*record, wheelSlots+1)
	s.waits = make(map[int64]chan struct{})
}

func (s *shard) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	s.term, s.unfiled, s.slots, s.waits = nil, false, nil, nil
}

// release wakes everyone who waits for a revoke.
func (s *shard) release() {
	for _, gone := range s.waits {
		close(gone)
	}
}

func (s *shard) filed(r *record) bool { return s.term != nil && r.epoch == s.term.epoch }
func (s *shard) fresh(r *record) bool { return s.filed(r) && r.slot == freshSlot }

// deadline gives when r runs out on a primary, also before the wheel has it.
func (s *shard) deadline(r *record) time.Duration {
	switch {
	case !s.filed(r):
		ttl := r.ttl
		if r.remaining > 0 {
			ttl = r.remaining
		}
		return after(s.term.extend, ttl)
	case r.slot == freshSlot:
		return math.MaxInt64
	}
	return r.deadline
}

// listDeadline is what All sorts by: a fresh lease has been there for no time, so its place is as if its
// time started with the tick that comes next.
func (s *shard) listDeadline(r *record) time.Duration {
	switch {
	case s.term == nil:
		return 0
	case s.fresh(r):
		return after(time.Duration(s.cursor)*wheelTick, r.ttl)
	}
	return s.deadline(r)
}

func (s *shard) expired(r *record, at time.Duration) bool {
	return !s.fresh(r) && s.deadline(r) <= at
}

// renew moves the deadline. A later one needs nothing of the wheel: the record is looked at in its old slot.
func (s *shard) renew(r *record, deadline time.Duration) {
	if s.filed(r) {
		if r.slot != freshSlot && deadline >= r.deadline {
			r.deadline = deadline
			return
		}
		s.unlink(r)
	}
	r.deadline, r.epoch = deadline, s.term.epoch
	s.file(r, deadline)
}

// fileAll puts the leases that were there at Promote into the wheel. It lets the mutex go between bites, so
// the primacy may be over when it comes back.
func (s *shard) fileAll(sp *spread) {
	term, bite := s.term, 0
	for _, r := range s.records {
		if !s.filed(r) {
			r.deadline = sp.place(s.deadline(r))
			r.epoch = term.epoch
			s.file(r, r.deadline)
		}
		if bite++; bite%recordsPerHold == 0 && !s.breathe(term) {
			return
		}
	}
	s.unfiled = false
}

// fileFresh starts the time of the leases granted since the last call.
func (s *shard) fileFresh(at time.Duration) {
	for r := s.slots[freshSlot]; r != nil; r = s.slots[freshSlot] {
		s.unlink(r)
		r.deadline = after(at, r.ttl)
		s.file(r, r.deadline)
	}
}

// expire works off the ticks up to at. It stops at limit and goes on from there at the next call. Of a
// longer time than the wheel reaches it skips the oldest ticks, so that it meets no record twice: their
// slots come round within the RetryInterval.
func (s *shard) expire(at time.Duration, limit int, expired []int64) []int64 {
	const reach = wheelSlots - 2 - int64(RetryInterval/wheelTick)
	s.cursor = max(s.cursor, int64(at/wheelTick)-reach)
	term, bite := s.term, 0
	for time.Duration(s.cursor)*wheelTick <= at {
		r := s.slots[s.cursor&wheelMask]
		if r == nil {
			s.cursor++
			continue
		}
		if len(expired) >= limit {
			return expired
		}
		s.unlink(r)
		if r.deadline <= at {
			expired = append(expired, r.id)
			s.file(r, at+RetryInterval)
		} else {
			s.file(r, r.deadline)
		}
		if bite++; bite%recordsPerHold == 0 && !s.breathe(term) {
			return expired
		}
	}
	return expired
}

// breathe lets others have the shard for a moment, and tells whether term still holds.
func (s *shard) breathe(term *primacy) bool {
	s.mu.Unlock()
	s.mu.Lock()
	return s.term == term
}

// file puts r into the slot of the first tick at or after due, or the nearest slot that the wheel has.
func (s *shard) file(r *record, due time.Duration) {
	tick := int64(due / wheelTick)
	if due%wheelTick != 0 {
		tick++
	}
	tick = min(max(tick, s.cursor+1), s.cursor+wheelSlots-1)
	s.link(r, int32(tick&wheelMask))
}

func (s *shard) link(r *record, slot int32) {
	r.slot, r.prev, r.next = slot, nil, s.slots[slot]
	if r.next != nil {
		r.next.prev = r
	}
	s.slots[slot] = r
}

func (s *shard) unlink(r *record) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		s.slots[r.slot] = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.next, r.prev = nil, nil
}
