package process

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// putTime is what one put of a load gets: more than the 7 s after which a member itself gives up.
	putTime = 15 * time.Second
	// pageKeys is how many keys one read of a check asks for.
	pageKeys = 5000
)

// Load is puts at a steady rate, each of a key of its own, whatever becomes of those before: a stall makes many late, as
// users see it, and not one. It keeps which were acknowledged. It belongs to one test.
type Load struct {
	// Failed is what clients saw instead of an acknowledgement; Slowest the longest time that an acknowledged put took.
	// Stalled is the longest time for which the machine kept the load itself from running: a control for what else in this
	// process is slow. All are for after Stop.
	Failed           []Failure
	Slowest, Stalled time.Duration

	prefix string
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu    sync.Mutex // guards the rest, and the results while puts are under way
	acked []int
	begun int
}

// Failure is one put that was not acknowledged.
type Failure struct {
	Began time.Time
	Took  time.Duration
	Err   error
}

func (f Failure) String() string {
	return fmt.Sprintf("begun %s, after %v: %v", f.Began.Format("15:04:05.000"), f.Took.Round(time.Millisecond), f.Err)
}

// StartLoad begins to put rate keys a second under prefix.
func StartLoad(t testing.TB, c *clientv3.Client, prefix string, rate int) *Load {
	t.Helper()
	l := &Load{prefix: prefix}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(t.Context())
	l.all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		start := time.Now()
		for ran := start; ; ran = time.Now() {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				l.Stalled = max(l.Stalled, time.Since(ran))
				for due := int(now.Sub(start) * time.Duration(rate) / time.Second); l.begun < due; {
					l.put(c)
				}
			}
		}
	})
	t.Cleanup(func() { l.Stop() })
	return l
}

// put begins one put. What is under way when the load ends is answered first.
func (l *Load) put(c *clientv3.Client) {
	n := l.begun
	l.begun++
	l.all.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), putTime)
		defer cancel()
		began := time.Now()
		_, err := c.Put(ctx, l.key(n), strconv.Itoa(n))
		took := time.Since(began)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err != nil {
			l.Failed = append(l.Failed, Failure{began, took, err})
			return
		}
		l.acked = append(l.acked, n)
		l.Slowest = max(l.Slowest, took)
	})
}

func (l *Load) key(n int) string { return fmt.Sprintf("%s/%08d", l.prefix, n) }

// Acked tells how many puts were acknowledged so far.
func (l *Load) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// Await waits until n more puts than now are acknowledged.
func (l *Load) Await(t testing.TB, n int) {
	t.Helper()
	n += l.Acked()
	Until(t, fmt.Sprintf("%d puts are acknowledged", n), func() error {
		if have := l.Acked(); have < n {
			return fmt.Errorf("%d are", have)
		}
		return nil
	})
}

// Stop begins no more puts and waits for those under way.
func (l *Load) Stop() {
	l.cancel()
	l.all.Wait()
}

// Check reads back all that was acknowledged, by linearizable reads, and gives how much it was.
func (l *Load) Check(t testing.TB, c *clientv3.Client) int {
	t.Helper()
	slices.Sort(l.acked)
	found := map[string]string{}
	end := clientv3.GetPrefixRangeEnd(l.prefix + "/")
	for from := l.prefix + "/"; ; {
		ctx, cancel := context.WithTimeout(t.Context(), Patience)
		r, err := c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageKeys))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range r.Kvs {
			found[string(kv.Key)] = string(kv.Value)
		}
		if !r.More {
			break
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
	lost := 0
	for _, n := range l.acked {
		if found[l.key(n)] != strconv.Itoa(n) {
			if lost++; lost <= 5 {
				t.Errorf("%s was acknowledged and is %q", l.key(n), found[l.key(n)])
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(l.acked))
	}
	return len(l.acked)
}
