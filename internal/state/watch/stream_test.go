package watch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"keelson/internal/storage/schema"
)

// TestControlsBounded has a peer that asks and never reads: it waits, and is let go when the stream is read
// or closed.
func TestControlsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{}, newPast())
		s := h.NewStream(noHeader)
		asked := 0
		go func() {
			for {
				if _, err := s.Watch(WatchRequest{Key: []byte("a")}); err != nil {
					return
				}
				asked++
			}
		}()
		synctest.Wait()
		if asked != controlsMax {
			t.Errorf("%d answers queued", asked)
		}
		for range 3 {
			if _, err := s.Next(t.Context()); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if asked != controlsMax+3 {
			t.Errorf("%d asked after 3 were read", asked)
		}
		h.Close()
	})
}

// flaky is a History that fails the first time.
type flaky struct {
	*past
	failed bool
}

var errDisk = errors.New("disk")

func (f *flaky) Scan(from, to schema.Revision, g func(schema.Revision, bool, []byte) bool) error {
	if !f.failed {
		f.failed = true
		return errDisk
	}
	return f.past.Scan(from, to, g)
}

// TestHistoryError gives the error to the caller, and the events to the next call.
func TestHistoryError(t *testing.T) {
	p := newPast()
	rng := rand.New(rand.NewPCG(1, 1))
	p.txn(rng, 2, 1, 10)
	h := New(Options{}, &flaky{past: p})
	defer h.Close()
	h.Reset(2, 0)
	s := h.NewStream(noHeader)
	if _, err := s.Watch(WatchRequest{Key: []byte("k00"), StartRev: 1}); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Next(t.Context()); err != nil || !r.Created {
		t.Fatal(r, err)
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if r, err := s.Next(t.Context()); err != nil || len(r.Events) == 0 {
		t.Fatal(r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestRace has streams come and go with many hands on each, while revisions are published and the hub is
// reset; then everything is closed under them.
func TestRace(t *testing.T) {
	p := newPast()
	h := New(Options{RingRevs: 100, Prev: p.prevAt}, p)
	var hands sync.WaitGroup
	for i := range uint64(4) {
		hands.Go(func() {
			rng := rand.New(rand.NewPCG(i, 5))
			for range 20 {
				s := h.NewStream(noHeader)
				var reader sync.WaitGroup
				reader.Go(func() {
					for {
						if _, err := s.Next(context.Background()); err != nil {
							return
						}
					}
				})
				for range 60 {
					_, _ = s.Watch(WatchRequest{Key: []byte("k"), End: []byte("l"), StartRev: rng.Int64N(20), PrevKV: true})
					s.Cancel(rng.Int64N(20))
					s.RequestProgress()
					h.Stats()
				}
				if rng.IntN(2) == 0 {
					hands.Go(s.Close)
				}
				s.Close()
				reader.Wait()
			}
		})
	}
	rng := rand.New(rand.NewPCG(9, 5))
	for rev := int64(2); rev < 1500; rev++ {
		h.Append(p.txn(rng, rev, 5, 20))
		h.Publish(rev)
		h.SetDurable(rev)
		if rev%400 == 0 {
			h.Suspend()
			h.Reset(rev, 0)
		}
	}
	hands.Wait()
	if streams, watchers, _, _ := h.Stats(); streams+watchers != 0 || h.watchers.Load() != 0 {
		t.Errorf("%d streams, %d watchers left", streams, watchers)
	}
	h.NewStream(noHeader)
	h.Close()
}

// TestOvertaken holds the dispatcher back until the ring has dropped what it has not matched: the watchers
// read it from the store.
func TestOvertaken(t *testing.T) {
	p := newPast()
	rng := rand.New(rand.NewPCG(2, 2))
	h := New(Options{RingRevs: 1}, p)
	defer h.Close()
	s := h.NewStream(noHeader)
	if _, err := s.Watch(WatchRequest{Key: []byte("k00"), End: []byte{0}}); err != nil {
		t.Fatal(err)
	}
	h.index.mu.Lock()
	const last = 3000
	for rev := int64(2); rev <= last; rev++ {
		h.Append(p.txn(rng, rev, 3, 10))
		h.SetDurable(rev)
		h.Publish(rev)
	}
	h.index.mu.Unlock()
	if h.RingStart() <= 2 {
		t.Fatal("the ring still has everything")
	}
	s.RequestProgress()
	events := 0
	for {
		r, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		events += len(r.Events)
		if r.WatchID == noID {
			if events != len(p.records) || r.Header.Revision != last {
				t.Errorf("%d of %d events before progress %d", events, len(p.records), r.Header.Revision)
			}
			return
		}
	}
}
