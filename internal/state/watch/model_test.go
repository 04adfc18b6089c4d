package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
	"keelson/internal/storage/schema"
)

// record is one change that ever happened.
type record struct {
	rev  schema.Revision
	key  string
	gone bool
	kv   []byte // as an event has it
	prev []byte
}

// past is all that happened, and a History of it that forgets what is compacted.
type past struct {
	mu        sync.Mutex
	records   []record
	live      map[string][]byte
	compacted int64 // what the store deleted up to
	scanMax   int64 // the largest revision ever scanned to
}

func newPast() *past { return &past{live: map[string][]byte{}} }

// txn makes a revision of random changes.
func (p *past) txn(rng *rand.Rand, rev int64, keys, valueMax int) []mvcc.Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	var changes []mvcc.Change
	for sub := range int64(1 + rng.IntN(3)) {
		key := fmt.Sprintf("k%02d", rng.IntN(keys))
		prev := p.live[key]
		r := record{rev: schema.Revision{Main: rev, Sub: sub}, key: key, prev: prev}
		if prev != nil && rng.IntN(4) == 0 {
			r.gone = true
			r.kv = wire.AppendKeyValue(nil, wire.KeyValue{Key: []byte(key), Mod: rev})
			delete(p.live, key)
		} else {
			r.kv = p.value(key, prev, rev, bytes.Repeat([]byte{'v'}, rng.IntN(valueMax)))
			p.live[key] = r.kv
		}
		p.records = append(p.records, r)
		changes = append(changes, mvcc.Change{Rev: r.rev, Delete: r.gone, Key: []byte(key), KV: r.kv, Prev: prev})
	}
	return changes
}

func (p *past) value(key string, prev []byte, rev int64, value []byte) []byte {
	kv := wire.KeyValue{Key: []byte(key), Value: value, Create: rev, Mod: rev, Version: 1}
	if prev != nil {
		old, _ := wire.ParseKeyValue(prev)
		kv.Create, kv.Version = old.Create, old.Version+1
	}
	return wire.AppendKeyValue(nil, kv)
}

func (p *past) Values([]schema.Revision) ([][]byte, error) { return nil, errors.New("not asked for") }

func (p *past) Scan(from, to schema.Revision, f func(schema.Revision, bool, []byte) bool) error {
	p.mu.Lock()
	records, compacted := p.records, p.compacted
	p.scanMax = max(p.scanMax, to.Main)
	p.mu.Unlock()
	first, _ := slices.BinarySearchFunc(records, from, func(r record, at schema.Revision) int {
		if r.rev.Less(at) {
			return -1
		}
		return 1
	})
	for _, r := range records[first:] {
		if !r.rev.Less(to) {
			break
		}
		if r.rev.Main < compacted {
			continue // a hole
		}
		kv := r.kv
		if r.gone {
			kv = wire.AppendKeyValue(nil, wire.KeyValue{Key: []byte(r.key)})
		}
		if !f(r.rev, r.gone, kv) {
			break
		}
	}
	return nil
}

func (p *past) prevAt(_ context.Context, key []byte, rev int64) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rev < p.compacted {
		return nil, errors.New("compacted")
	}
	for _, r := range slices.Backward(p.records) {
		if r.rev.Main <= rev && r.key == string(key) {
			if r.gone {
				return nil, nil
			}
			return r.kv, nil
		}
	}
	return nil, nil
}

// seen is what came for one watcher.
type seen struct {
	req       WatchRequest
	start     int64
	events    []wire.Event
	rev       int64 // last header
	progress  int64
	compacted int64
	canceled  bool
}

// peer reads one stream.
type peer struct {
	s     *Stream
	stall sync.Mutex // held by the test while the peer does not read

	mu       sync.Mutex
	asked    map[int64]WatchRequest
	watches  map[int64]*seen
	ended    []*seen
	progress chan int64
	problem  error
}

func newPeer(h *Hub) *peer {
	return &peer{
		s:     h.NewStream(func() wire.Header { return wire.Header{ClusterID: 1} }),
		asked: map[int64]WatchRequest{}, watches: map[int64]*seen{}, progress: make(chan int64, 1000),
	}
}

func (p *peer) read() {
	for {
		p.stall.Lock()
		p.stall.Unlock() //nolint:staticcheck // only to wait
		r, err := p.s.Next(context.Background())
		if errors.Is(err, ErrClosed) {
			return
		}
		p.mu.Lock()
		if p.problem == nil {
			if p.problem = err; err == nil {
				p.problem = p.take(r)
			}
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take checks what can be seen of one answer.
func (p *peer) take(r *wire.WatchResponse) error {
	if r.WatchID == noID && !r.Created {
		for id, w := range p.watches {
			if w.start <= r.Header.Revision {
				w.progress = r.Header.Revision
			} else if w.req.StartRev > r.Header.Revision {
				return fmt.Errorf("progress %d, but watcher %d starts at %d", r.Header.Revision, id, w.start)
			}
		}
		p.progress <- r.Header.Revision
		return nil
	}
	w := p.watches[r.WatchID]
	if r.Created && !r.Canceled {
		req, asked := p.asked[r.WatchID]
		if w != nil || !asked {
			return fmt.Errorf("watcher %d created, asked %v, there %v", r.WatchID, asked, w != nil)
		}
		start := req.StartRev
		if start == 0 {
			start = r.Header.Revision + 1
		}
		p.watches[r.WatchID] = &seen{req: req, start: start}
		return nil
	}
	if w == nil {
		return fmt.Errorf("answer for watcher %d, which is not there: %+v", r.WatchID, r)
	}
	if r.Canceled {
		w.canceled, w.compacted = true, r.CompactRevision
		p.ended = append(p.ended, w)
		delete(p.watches, r.WatchID)
		return nil
	}
	if r.Header.Revision < w.rev {
		return fmt.Errorf("header goes back from %d to %d", w.rev, r.Header.Revision)
	}
	w.rev = r.Header.Revision
	for _, e := range r.Events {
		kv, err := wire.ParseKeyValue(e.KV)
		if err != nil || kv.Mod > r.Header.Revision || kv.Mod <= w.progress {
			return fmt.Errorf("watcher %d: event at %d under header %d after progress %d: %w", r.WatchID, kv.Mod, w.rev, w.progress, err)
		}
	}
	w.events = append(w.events, r.Events...)
	return nil
}

// check compares what came with what happened. Of an ended watcher it may be the beginning.
func (w *seen) check(p *past) error {
	s := span{key: string(w.req.Key), end: string(w.req.End)}
	i := 0
	for _, r := range p.records {
		if r.rev.Main < w.start || !s.has([]byte(r.key)) || r.gone && w.req.NoDelete || !r.gone && w.req.NoPut {
			continue
		}
		if i == len(w.events) {
			if !w.canceled {
				return fmt.Errorf("%v from %d: nothing after %d events, missing %v", s, w.start, i, r.rev)
			}
			if w.compacted != 0 && w.compacted <= max(w.start, w.rev+1) {
				return fmt.Errorf("%v from %d: canceled for %d after %d", s, w.start, w.compacted, w.rev)
			}
			return nil
		}
		e := w.events[i]
		if e.Delete != r.gone || !bytes.Equal(e.KV, r.kv) {
			got, _ := wire.ParseKeyValue(e.KV)
			return fmt.Errorf("%v from %d: event %d is %q at %d, want %q at %v", s, w.start, i, got.Key, got.Mod, r.key, r.rev)
		}
		want := r.prev
		if !w.req.PrevKV || e.PrevKV == nil && r.rev.Main-1 < p.compacted {
			want = nil
		}
		if r.rev.Sub == 0 && !bytes.Equal(e.PrevKV, want) {
			return fmt.Errorf("%v: prev of %q at %v is %q, want %q", s, r.key, r.rev, e.PrevKV, want)
		}
		i++
	}
	if i != len(w.events) {
		return fmt.Errorf("%v from %d: %d events too many", s, w.start, len(w.events)-i)
	}
	return nil
}

// world drives a hub as the apply goroutine does, and peers beside it.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	h       *Hub
	past    *past
	peers   []*peer
	stalled map[*peer]bool
	rev     int64
	done    sync.WaitGroup
}

// still is a clock that stands: reading history takes no time, and nobody rests from it.
type still struct{ clock.Clock }

func (still) Now() time.Time { return time.Time{} }

func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed+round), func(t *testing.T) { run(t, seed+round) })
	}
}

func run(t *testing.T, seed uint64) {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 3)), past: newPast(), rev: 1, stalled: map[*peer]bool{}}
	w.h = New(Options{RingRevs: 300, RingBytes: 1 << 20, Prev: w.past.prevAt, Clock: still{clock.System}}, w.past)
	for range 4 {
		p := newPeer(w.h)
		w.peers = append(w.peers, p)
		w.done.Go(p.read)
	}
	for range 2500 {
		w.step()
		if w.rng.IntN(10) == 0 {
			runtime.Gosched() // on one processor the peers would hardly read before the end
		}
	}
	w.settle()
	w.h.Close()
	w.done.Wait()
	if w.past.scanMax == 0 {
		t.Error("no watcher read history")
	}
	count := 0
	for _, p := range w.peers {
		for _, s := range p.watches {
			p.ended = append(p.ended, s)
		}
		for _, s := range p.ended {
			count += len(s.events)
			if err := s.check(w.past); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d revisions, %d events", w.rev, count)
}

func (w *world) step() {
	p := w.peers[w.rng.IntN(len(w.peers))]
	switch n := w.rng.IntN(1000); {
	case n < 60:
		w.watch(p)
	case n < 90:
		w.cancel(p)
	case n < 110:
		p.s.RequestProgress()
	case n < 130:
		if w.stalled[p] = !w.stalled[p]; w.stalled[p] {
			p.stall.Lock()
		} else {
			p.stall.Unlock()
		}
	case n < 135:
		w.compact()
	case n < 137:
		w.h.Suspend()
		w.past.mu.Lock()
		w.past.compacted = max(w.past.compacted, w.rng.Int64N(w.rev+1))
		w.past.mu.Unlock()
		w.h.Reset(w.rev, w.past.compacted)
	default:
		for range 1 + w.rng.IntN(4) {
			w.rev++
			w.h.Append(w.past.txn(w.rng, w.rev, 30, 200))
		}
		w.h.Publish(w.rev)
		if w.rng.IntN(3) == 0 {
			w.h.SetDurable(w.rev - w.rng.Int64N(50))
		}
	}
}

func (w *world) watch(p *peer) {
	req := WatchRequest{
		ID: 1 + w.rng.Int64N(1_000_000), Key: fmt.Appendf(nil, "k%02d", w.rng.IntN(30)),
		PrevKV: w.rng.IntN(2) == 0, NoPut: w.rng.IntN(8) == 0, NoDelete: w.rng.IntN(8) == 0,
	}
	switch w.rng.IntN(4) {
	case 0:
		req.End = []byte{0}
	case 1:
		req.End = []byte("k99")
	}
	if w.rng.IntN(2) == 0 {
		req.StartRev = 1 + w.rng.Int64N(w.rev+20)
	}
	p.mu.Lock()
	_, taken := p.asked[req.ID]
	p.asked[req.ID] = req
	full := len(p.asked) > 40
	p.mu.Unlock()
	if taken || full {
		return
	}
	if _, err := p.s.Watch(req); err != nil {
		w.t.Error(err)
	}
}

func (w *world) cancel(p *peer) {
	p.mu.Lock()
	var id int64
	for id = range p.asked {
		break
	}
	p.mu.Unlock()
	p.s.Cancel(id)
}

func (w *world) compact() {
	rev := w.past.compacted + w.rng.Int64N(w.rev-w.past.compacted+1)
	w.h.Compacted(rev)
	w.past.mu.Lock()
	w.past.compacted = rev
	w.past.mu.Unlock()
}

// settle lets every peer read to the end: a progress answer says that it has. A last watcher of each starts where the ring
// has passed, however the goroutines were scheduled before.
func (w *world) settle() {
	first := w.rev + 1
	for range 3 { // past every start in the future, too
		for range chunkRevs {
			w.rev++
			w.h.Append(w.past.txn(w.rng, w.rev, 30, 10))
		}
		w.h.Publish(w.rev)
		w.h.SetDurable(w.rev)
	}
	for _, p := range w.peers {
		if w.stalled[p] {
			p.stall.Unlock()
		}
		last := WatchRequest{ID: 2_000_000, Key: []byte("k"), End: []byte("l"), StartRev: first}
		p.mu.Lock()
		p.asked[last.ID] = last
		p.mu.Unlock()
		if _, err := p.s.Watch(last); err != nil {
			w.t.Error(err)
		}
	}
	for _, p := range w.peers {
		p.s.RequestProgress()
		timeout := time.After(2 * time.Minute) // a busy machine is slow under -race
		for got := int64(0); got < w.rev; {
			select {
			case got = <-p.progress:
			case <-timeout:
				w.t.Fatalf("no progress to %d, at %d: %v", w.rev, got, p.problem)
			}
		}
		p.mu.Lock()
		if p.problem != nil {
			w.t.Error(p.problem)
		}
		p.mu.Unlock()
	}
}
