package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/config"
	"keelson/internal/kit/clock"
	"keelson/internal/state/mvcc"
)

// aging is a store whose revision is the seconds since its start, and that notes what it is compacted to.
type aging struct {
	began time.Time
	mu    sync.Mutex // guards the rest
	leads bool
	err   error
	calls []string
}

func (a *aging) rev() int64 { return int64(time.Since(a.began)/time.Second) + 1 }

func (a *aging) leading() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leads
}

func (a *aging) set(leads bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leads, a.err = leads, err
}

// compact notes at which second it was asked for which revision's second.
func (a *aging) compact(_ context.Context, rev int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, time.Since(a.began).String()+"→"+(time.Duration(rev-1)*time.Second).String())
	return a.err
}

func (a *aging) taken() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := a.calls
	a.calls = nil
	return calls
}

// compacting runs a compactor in a bubble of its own time.
func compacting(t *testing.T, policy config.Compaction, f func(a *aging, logs *observer.ObservedLogs)) {
	synctest.Test(t, func(t *testing.T) {
		a := &aging{began: time.Now(), leads: true}
		core, logs := observer.New(zap.InfoLevel)
		c := &autoCompactor{policy: policy, rev: a.rev, leads: a.leading, compact: a.compact, clock: clock.System, logger: zap.New(core)}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { c.run(ctx) })
		f(a, logs)
		cancel()
		running.Wait()
	})
}

func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestCompactByTime(t *testing.T) {
	for _, c := range []struct {
		keep, run time.Duration
		want      []string
	}{
		{time.Hour, 3*time.Hour + time.Minute, []string{"1h0m0s→0s", "2h0m0s→54m0s", "3h0m0s→1h54m0s"}},
		{10 * time.Minute, 31 * time.Minute, []string{"10m0s→0s", "20m0s→9m0s", "30m0s→19m0s"}},
		// Past an hour it goes by the hour, once the first retention is over.
		{3 * time.Hour, 5*time.Hour + time.Minute, []string{"3h0m0s→0s", "4h0m0s→54m0s", "5h0m0s→1h54m0s"}},
		{time.Hour, 59 * time.Minute, nil},
		{0, 24 * time.Hour, nil},
	} {
		compacting(t, config.Compaction{Retention: c.keep}, func(a *aging, _ *observer.ObservedLogs) {
			sleep(c.run)
			if got := a.taken(); !slices.Equal(got, c.want) {
				t.Errorf("%v for %v: %v, want %v", c.keep, c.run, got, c.want)
			}
		})
	}
}

// TestCompactRetries asks again after a tenth of the time, and takes a compaction by somebody else for its own.
func TestCompactRetries(t *testing.T) {
	compacting(t, config.Compaction{Retention: time.Hour}, func(a *aging, logs *observer.ObservedLogs) {
		a.set(true, errors.New("no"))
		sleep(time.Hour + 7*time.Minute)
		a.set(true, mvcc.ErrCompacted)
		sleep(13 * time.Minute)
		if got, want := a.taken(), []string{"1h0m0s→0s", "1h6m0s→0s", "1h12m0s→6m0s"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		var lines []string
		for _, l := range logs.All() {
			lines = append(lines, strings.Fields(l.Message)[0])
		}
		want := []string{"starting", "failed", "starting", "failed", "starting", "completed"}
		if !slices.Equal(lines, want) {
			t.Errorf("logged %v, want %v", lines, want)
		}
	})
}

// TestCompactLeaderAlone leaves it to the leader, and knows at once what to forget when it becomes one.
func TestCompactLeaderAlone(t *testing.T) {
	compacting(t, config.Compaction{Retention: time.Hour}, func(a *aging, _ *observer.ObservedLogs) {
		a.set(false, nil)
		sleep(4*time.Hour + time.Minute)
		a.set(true, nil)
		sleep(6 * time.Minute)
		if got, want := a.taken(), []string{"4h6m0s→3h0m0s"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

func TestCompactByRevisions(t *testing.T) {
	compacting(t, config.Compaction{Revisions: 400}, func(a *aging, _ *observer.ObservedLogs) {
		sleep(16 * time.Minute) // revision 901 at 15m
		if got, want := a.taken(), []string{"10m0s→3m20s", "15m0s→8m20s"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		a.set(false, nil)
		sleep(time.Hour)
		if got := a.taken(); got != nil {
			t.Errorf("a follower compacted: %v", got)
		}
	})
}
