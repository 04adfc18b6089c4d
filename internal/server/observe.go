package server

import (
	"time"

	"keelson/internal/state/lease"
	"keelson/internal/storage/snap"
	"keelson/internal/storage/store"
)

// Observer is told what a member does and how long it took, as it happens. Nil fields are not called. Those that tell of
// requests and ranges are called by many goroutines at once, the others by one at a time.
type Observer struct {
	// LogSync and LogWrite are called for each sync of the log and each write, with its bytes.
	LogSync  func(time.Duration)
	LogWrite func(took time.Duration, bytes int)
	// StoreCommit is called for each commit of the store.
	StoreCommit func(store.CommitTimes)
	// Apply is called for each entry, with what it asked for.
	Apply func(op string, ok bool, took time.Duration)
	// Request is called for each request that went through the log, and for each read.
	Request func(kind string, ok bool, took time.Duration)
	// Range is called for each range: what a read took once the member was sure to be up to date.
	Range func(ok bool, took time.Duration)
	// Hash is called for each hash: of the whole file, or of the revisions up to one.
	Hash func(revisions bool, took time.Duration)
	// Store is told of compactions and defragmentations.
	Store store.Observer
	// Backup is called for each snapshot that was streamed to a client.
	Backup func(took time.Duration)
	// SnapshotSaved is called for each .snap file, and SnapshotReceived for each state file from a leader.
	SnapshotSaved    func(snap.Times)
	SnapshotReceived func(snap.Times)
	// IndexPause is called for each step in which compaction held up what is applied.
	IndexPause func(time.Duration)
	Leases     lease.Observer
	// LeaseExpired is called for each lease whose end this member proposed.
	LeaseExpired func()
	// Events is called for each answer to watchers with the number of its events.
	Events func(n int)
}

func (o *Observer) apply(op string, ok bool, took time.Duration) {
	if o.Apply != nil {
		o.Apply(op, ok, took)
	}
}

func (o *Observer) request(kind string, ok bool, took time.Duration) {
	if o.Request != nil {
		o.Request(kind, ok, took)
	}
}
