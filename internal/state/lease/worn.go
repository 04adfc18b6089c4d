package lease

import "time"

// Worn gives the leases that have lost at least wear of their time since it was last noted, by their grant, their renewal
// or a checkpoint; Remaining is the whole seconds that each has left, one at least. It gives nothing on a table that is
// not primary.
func (t *Table) Worn(now time.Time, wear time.Duration) []Lease {
	var worn []Lease
	for i := range t.shards {
		worn = t.shards[i].worn(now, wear, worn)
	}
	return worn
}

func (s *shard) worn(now time.Time, wear time.Duration, worn []Lease) []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	term, looked := s.term, 0
	if term == nil {
		return worn
	}
	at := now.Sub(term.at)
	for _, r := range s.records {
		noted := r.ttl
		if r.remaining > 0 {
			noted = r.remaining
		}
		// A fresh lease's deadline is the end of time.
		left := int64((s.deadline(r) - at) / time.Second)
		if left > 0 && left <= noted-int64(wear/time.Second) {
			worn = append(worn, Lease{ID: r.id, TTL: r.ttl, Remaining: left})
		}
		if looked++; looked%recordsPerHold == 0 && !s.breathe(term) {
			return worn
		}
	}
	return worn
}
