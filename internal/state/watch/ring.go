package watch

import (
	"sort"
	"sync/atomic"

	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
)

const (
	// chunkRevs and chunkBytes end a chunk, whichever comes first. The ring drops whole chunks, so its bounds
	// are kept to within one: 100,000 revisions are 196 chunks of 512, 32 MiB are 32 chunks of 1 MiB.
	chunkRevs  = 512
	chunkBytes = 1 << 20

	// eventBytes is what an event takes besides its key-values: the struct (80), the slice that holds it (24),
	// the key's own bytes where they are not shared (24).
	eventBytes = 128
)

// event is one change as it lies in the ring.
type event struct {
	key []byte
	wire.Event
}

func (e *event) size() int { return eventBytes + len(e.KV) + len(e.PrevKV) }

// chunk holds the events of consecutive revisions. The apply goroutine fills revs in order; others read
// only what is at or below the published revision, whose atomic store orders the two.
type chunk struct {
	first int64
	n     int
	bytes int64
	revs  [chunkRevs][]event
}

// ring holds the newest revisions, consecutive and without a gap: bounded in bytes and in revisions, but
// never dropping what the store does not have yet. One goroutine appends; readers take no lock.
type ring struct {
	bytesMax int64
	revsMax  int64

	bytes int64
	next  int64 // the revision that the next append must have
	last  *chunk
	// chunks are all chunks, oldest first: a new slice whenever a chunk comes or goes.
	chunks atomic.Pointer[[]*chunk]
}

func newRing(first, bytesMax, revsMax int64) *ring {
	r := &ring{bytesMax: bytesMax, revsMax: revsMax, next: first}
	r.last = &chunk{first: first}
	r.chunks.Store(&[]*chunk{r.last})
	return r
}

// append adds the next revision and drops the oldest chunks over the bounds, as far as the store has them.
func (r *ring) append(changes []mvcc.Change, durable int64) {
	events := make([]event, len(changes))
	size := int64(0)
	for i := range changes {
		c := &changes[i]
		events[i] = event{key: c.Key, Event: wire.Event{Delete: c.Delete, KV: c.KV, PrevKV: c.Prev}}
		size += int64(events[i].size())
	}
	if r.last.n == chunkRevs || r.last.bytes >= chunkBytes {
		r.turn(durable)
	}
	r.last.revs[r.last.n] = events
	r.last.n++
	r.last.bytes += size
	r.bytes += size
	r.next++
}

// turn starts a chunk, and drops old ones.
func (r *ring) turn(durable int64) {
	old := *r.chunks.Load()
	for len(old) > 1 && (r.bytes > r.bytesMax || r.next-old[0].first > r.revsMax) && old[1].first-1 <= durable {
		r.bytes -= old[0].bytes
		old = old[1:]
	}
	r.last = &chunk{first: r.next}
	chunks := make([]*chunk, 0, len(old)+1)
	chunks = append(append(chunks, old...), r.last)
	r.chunks.Store(&chunks)
}

// start gives the oldest revision in the ring.
func (r *ring) start() int64 { return (*r.chunks.Load())[0].first }

// each calls f for the revisions in [from, to] in order, until f answers false. to must be published. It
// answers false, having called nothing, where from has left the ring.
func (r *ring) each(from, to int64, f func(rev int64, events []event) bool) bool {
	chunks := *r.chunks.Load()
	if from < chunks[0].first {
		return false
	}
	i := sort.Search(len(chunks), func(i int) bool { return chunks[i].first > from }) - 1
	for rev := from; rev <= to; i++ {
		end := to
		if i+1 < len(chunks) {
			end = min(to, chunks[i+1].first-1)
		}
		for c := chunks[i]; rev <= end; rev++ {
			if !f(rev, c.revs[rev-c.first]) {
				return true
			}
		}
	}
	return true
}
