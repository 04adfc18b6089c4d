package e2e

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

const (
	// onlookers is how many watchers watch through one proxy, and for how long; make e2e has them be onlookersLong.
	onlookers, onlookersLong = 200, 2_000
	watched, watchedLong     = 8 * time.Second, time.Minute
	// watchedPause is the time between two puts: 2,000 watchers get 40,000 events a second.
	watchedPause = 50 * time.Millisecond
	// mishapPause is the time between two ends, by a signal or a crash, of a member and of the proxy in turn.
	mishapPause = 2 * time.Second
)

// curtain is the key whose first event ends the show: a put whose answer was lost may come after any other.
const curtain = "crowd/end"

// onlooker is what one watcher has seen.
type onlooker struct {
	last, events atomic.Int64
	over         atomic.Bool
	sum          uint64 // of the revisions and keys in the order in which they came; read once the watcher has ended
}

// watch follows ch until it ends or the curtain falls, and tells of what came twice or too late.
func (o *onlooker) watch(ch clientv3.WatchChan) error {
	sum := fnv.New64a()
	for wr := range ch {
		if err := wr.Err(); err != nil {
			return err
		}
		for _, e := range wr.Events {
			if e.Kv.ModRevision <= o.last.Load() {
				return fmt.Errorf("revision %d came after %d", e.Kv.ModRevision, o.last.Load())
			}
			fmt.Fprintln(sum, e.Kv.ModRevision, string(e.Kv.Key), string(e.Kv.Value))
			o.sum = sum.Sum64()
			o.events.Add(1)
			o.last.Store(e.Kv.ModRevision)
			if string(e.Kv.Key) == curtain {
				o.over.Store(true)
				return nil
			}
		}
	}
	return nil
}

// sum adds up a metric of members.
func sum(members []*process.Member, name string) (n float64) {
	for _, m := range members {
		n += m.Metric(name)
	}
	return n
}

// A crowd watches one prefix through a proxy while keys are put, members die and come back, and the proxy does: each sees
// every event once and in order, and all together are one watcher at the members. KEELSON_WATCHED sets for how long.
func TestProxyCrowd(t *testing.T) {
	plainOnly(t, "a proxy shows members its own certificate; users through one are tested in its package")
	t.Parallel()
	crowd, period := onlookers, watched
	if os.Getenv("KEELSON_LONG") != "" {
		crowd, period = onlookersLong, watchedLong
	}
	if v := os.Getenv("KEELSON_WATCHED"); v != "" {
		var err error
		if period, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	all := three(t)
	before := sum(all, "etcd_debugging_mvcc_watcher_total")
	p := process.Proxy(t, all)
	direct := process.Dial(t, all...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, running := watchThrough(ctx, t, p, crowd)
	process.Until(t, "the watchers are one", func() error {
		if n := sum(all, "etcd_debugging_mvcc_watcher_total") - before; n != 1 {
			return fmt.Errorf("%v watchers at the members", n)
		}
		return nil
	})
	r, err := direct.Get(t.Context(), curtain)
	if err != nil {
		t.Fatal(err)
	}
	mishaps(t, all, p, direct, period)
	want := truth(t, direct, r.Header.Revision+1)
	process.Until(t, "everybody has seen the last event", func() error {
		for i, o := range seen {
			if !o.over.Load() {
				return fmt.Errorf("watcher %d of %d is at %d, the last is %d", i, crowd, o.last.Load(), want.last.Load())
			}
		}
		return nil
	})
	process.Until(t, "the watchers are one again", func() error {
		if n := sum(all, "etcd_debugging_mvcc_watcher_total") - before; n > 1 {
			return fmt.Errorf("%v watchers at the members", n)
		}
		return nil
	})
	cancel()
	running.Wait()
	for i, o := range seen {
		if o.sum != want.sum {
			t.Errorf("watcher %d has seen %d events, not the %d that there were, or in another order", i, o.events.Load(), want.events.Load())
		}
	}
	t.Logf("%d watchers saw %d events each", crowd, want.events.Load())
	p.Stop()
	for _, m := range all {
		m.Stop()
	}
}

// watchThrough has a crowd watch, over a connection for each fifty.
func watchThrough(ctx context.Context, t *testing.T, p *process.Member, crowd int) (seen []*onlooker, running *sync.WaitGroup) {
	t.Helper()
	const perClient = 50
	running = new(sync.WaitGroup)
	var c *clientv3.Client
	for i := range crowd {
		if i%perClient == 0 {
			c = p.Client()
		}
		ch := c.Watch(ctx, "crowd/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		if wr := <-ch; !wr.Created {
			t.Fatal(wr.Err())
		}
		o := new(onlooker)
		seen = append(seen, o)
		running.Go(func() {
			if err := o.watch(ch); err != nil {
				t.Errorf("watcher %d: %v", i, err)
			}
		})
	}
	return seen, running
}

// mishaps puts keys for a while, past the proxy, and kills or stops a member or the proxy now and then. At the end the
// curtain falls.
func mishaps(t *testing.T, all []*process.Member, p *process.Member, direct *clientv3.Client, period time.Duration) {
	t.Helper()
	put := func(key string, n int) {
		process.Until(t, "a put is acknowledged", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), writeTime)
			defer cancel()
			_, err := direct.Put(ctx, key, fmt.Sprint(n))
			return err
		})
	}
	tick, mishap, end := time.NewTicker(watchedPause), time.NewTicker(mishapPause), time.After(period)
	defer tick.Stop()
	defer mishap.Stop()
	for n, kills := 0, 0; ; n++ {
		put(fmt.Sprint("crowd/", n%7), n)
		select {
		case <-end:
			for _, m := range all {
				m.WaitHealthy()
			}
			p.WaitHealthy()
			put(curtain, n+1)
			return
		case <-mishap.C:
			m := p
			if kills++; kills%2 == 1 {
				m = all[rand.IntN(len(all))]
			}
			if rand.IntN(2) == 0 {
				m.Kill()
			} else {
				m.WaitHealthy() // before that it may not have come to look for signals
				m.Stop()
			}
			m.Start()
		case <-tick.C:
		}
	}
}

// truth is what a watcher at the members themselves sees of the revisions from first to the curtain.
func truth(t *testing.T, direct *clientv3.Client, first int64) *onlooker {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o, ended := new(onlooker), make(chan error, 1)
	go func() { ended <- o.watch(direct.Watch(ctx, "crowd/", clientv3.WithPrefix(), clientv3.WithRev(first))) }()
	process.Until(t, "the members have told all", func() error {
		if !o.over.Load() {
			return fmt.Errorf("at %d", o.last.Load())
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return o
}

// The leases of a crowd of clients are kept alive through a proxy over one stream.
func TestProxyKeepsLeasesAlive(t *testing.T) {
	plainOnly(t, "a proxy shows members its own certificate; users through one are tested in its package")
	t.Parallel()
	clients, each := 10, 20
	if os.Getenv("KEELSON_LONG") != "" {
		clients, each = 20, 100
	}
	const ttl = 10
	m := process.Single(t, keelson, "").Serve()
	const streams = `grpc_server_started_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}`
	before := m.Metric(streams)
	p := process.Proxy(t, []*process.Member{m})
	var all sync.WaitGroup
	for range clients {
		c := p.Client()
		for range each {
			l, err := c.Grant(t.Context(), ttl)
			if err != nil {
				t.Fatal(err)
			}
			ch, err := c.KeepAlive(t.Context(), l.ID)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				for range 4 { // a third of the time to live lies between two
					if r := <-ch; r == nil || r.TTL != ttl {
						t.Errorf("lease %x: %v", l.ID, r)
						return
					}
				}
			})
		}
	}
	all.Wait()
	if n := m.Metric(streams) - before; n != 1 {
		t.Errorf("%v streams", n)
	}
	r, err := m.Client().Leases(t.Context())
	if err != nil || len(r.Leases) != clients*each {
		t.Errorf("%d leases of %d are left: %v", len(r.Leases), clients*each, err)
	}
	p.Stop()
	m.Stop()
}
