package raftloop

import (
	"sync"

	"go.etcd.io/raft/v3"
)

// Status is the member's place in the cluster at one moment.
type Status struct {
	ID      uint64
	Lead    uint64 // 0: no leader known
	Term    uint64
	Commit  uint64
	Applied uint64
	Role    raft.StateType
	// LeaderChanges counts the leaders seen since start, a return of the same one in another term included.
	LeaderChanges uint64
}

// board shows the loop's state to other goroutines.
type board struct {
	mu       sync.Mutex // guards all below
	status   Status     // without Applied
	lead     uint64     // the leader last announced, with its term
	term     uint64
	announce chan struct{}
}

// post shows s. forgotten says that a missing leader was forgotten on suspicion: that is no change until
// another leader is there.
func (b *board) post(lead, term, commit uint64, role raft.StateType, forgotten bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.status
	s.Lead, s.Term, s.Commit, s.Role = lead, term, commit, role
	if lead == 0 && (forgotten || b.lead == 0) || lead == b.lead && term == b.term {
		return
	}
	b.lead, b.term = lead, term
	if lead != 0 {
		s.LeaderChanges++
	}
	close(b.announce)
	b.announce = make(chan struct{})
}

func (b *board) read() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

func (b *board) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.announce
}
