package mvcc

import "sync/atomic"

// Counts is what a store has done since it was made. A transaction counts when it did more than one thing.
type Counts struct {
	Ranges, Puts, Deletes, Txns atomic.Int64
	// PutBytes is the size of the keys and values that were put.
	PutBytes atomic.Int64
}

// Counts gives the store's counts, which go on counting.
func (s *Store) Counts() *Counts { return &s.counts }
