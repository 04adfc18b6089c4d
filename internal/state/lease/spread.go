package lease

import "time"

const (
	// revokesPerSecond is how many leases a leader revokes in a second at most: etcd's figure.
	revokesPerSecond = 1000
	// expiriesPerSecond leaves a quarter of that for leases that run out by themselves.
	expiriesPerSecond = revokesPerSecond * 3 / 4
)

// spread delays deadlines so that no second after a change of leader has more than expiriesPerSecond of
// them: otherwise leases whose holders live would run out while they wait for the revokes of dead ones. It
// fills seconds in the order in which leases come, and finds the next second with room as a union-find does,
// in near constant time and without sorting.
type spread struct {
	used map[int64]int
	// fuller points from a full second to a later one, with room or full.
	fuller map[int64]int64
}

// newSpread gives nil, which delays nothing, where there are too few leases to pile up.
func newSpread(leases int) *spread {
	if leases < revokesPerSecond {
		return nil
	}
	return &spread{used: make(map[int64]int), fuller: make(map[int64]int64)}
}

// place gives the deadline as it is, or moved by whole seconds to the first second with room.
func (s *spread) place(deadline time.Duration) time.Duration {
	const lastSecond = TTLMax // beyond it there is no room to move in
	second := int64(deadline / time.Second)
	if s == nil || second >= lastSecond {
		return deadline
	}
	free := s.find(second)
	if s.used[free]++; s.used[free] >= expiriesPerSecond {
		s.fuller[free] = free + 1
	}
	return deadline + time.Duration(free-second)*time.Second
}

func (s *spread) find(second int64) int64 {
	for {
		next, full := s.fuller[second]
		if !full {
			return second
		}
		if over, full := s.fuller[next]; full {
			s.fuller[second] = over
		}
		second = next
	}
}
