package grpcproxy

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/kit/clock"
)

// WatchOptions say how a Watch works.
type WatchOptions struct {
	// KV is asked whether a watcher's caller may read its range: u's, in the same namespace as the watcher. Nil for u itself.
	KV clientv3.KV
	// FragmentBytes is how large an answer to a watcher that asked for fragments gets. Zero for 1.5 MiB, a member's default.
	FragmentBytes int
	Clock         clock.Clock // nil for the machine's own
}

// fragmentBytes is what a member's --max-request-bytes is, if nobody sets it.
const fragmentBytes = 3 << 19

// Watch serves etcdserverpb.Watch. Watchers that must see the same events form a group, which has one watcher at the
// members (group.go). It owns the goroutines of the groups and of watchers that catch up; Close joins them.
//
// Locks are taken in this order: Watch.mu, group.mu, watchStream.mu.
type Watch struct {
	pb.UnsafeWatchServer
	kv       clientv3.KV
	watcher  clientv3.Watcher
	fragment int
	clock    clock.Clock
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	watchers  prometheus.Gauge
	events    prometheus.Counter
	ringBytes atomic.Int64 // what the rings of all groups hold
	permits   permits

	mu     sync.Mutex // guards the rest
	closed bool
	groups map[sight]*group
}

var _ pb.WatchServer = (*Watch)(nil)

// sight is what decides which events a watcher sees, and how.
type sight struct {
	caller            caller
	key, end          string
	prevKV            bool
	noPuts, noDeletes bool
}

// NewWatch gives a Watch before the members of u. w is u's Watcher or has a namespace around it. It ends with ctx, and must
// be closed, but not before its server has no calls left.
func NewWatch(ctx context.Context, u *clientv3.Client, w clientv3.Watcher, o WatchOptions) *Watch {
	if o.KV == nil {
		o.KV = clientv3.NewKV(u)
	}
	if o.FragmentBytes == 0 {
		o.FragmentBytes = fragmentBytes
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	s := &Watch{
		kv: o.KV, watcher: w, fragment: o.FragmentBytes, clock: o.Clock, groups: map[sight]*group{},
		permits:  permits{asking: map[sight]*permit{}, waiting: map[sight]*permit{}},
		watchers: gauge("watchers_coalescing_total", "Total number of current watchers coalescing"),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "etcd", Subsystem: "grpc_proxy", Name: "events_coalescing_total", Help: "Total number of events coalescing",
		}),
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// Collectors gives what the Watch counts.
func (s *Watch) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.watchers, s.events}
}

// Close ends every watcher at the members and waits for that.
func (s *Watch) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	return nil
}

// start runs f in a goroutine that Close joins; it is false where the Watch is closed.
func (s *Watch) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startLocked(f)
}

// startLocked is start for who holds s.mu.
func (s *Watch) startLocked(f func()) bool {
	if s.closed {
		return false
	}
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		f()
	}()
	return true
}

// options are v as the client library takes it, from revision rev on. Answers that are too large for one message come in
// fragments, which the library puts together; members tell of progress, so that a watcher that is idle keeps its place.
func (v sight) options(rev int64) []clientv3.OpOption {
	opts := []clientv3.OpOption{clientv3.WithRev(rev), clientv3.WithFragment(), clientv3.WithProgressNotify()}
	if v.end != "" {
		opts = append(opts, clientv3.WithRange(v.end))
	}
	if v.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	if v.noPuts {
		opts = append(opts, clientv3.WithFilterPut())
	}
	if v.noDeletes {
		opts = append(opts, clientv3.WithFilterDelete())
	}
	return opts
}

func sightOf(c caller, r *pb.WatchCreateRequest) sight {
	v := sight{caller: c, key: string(r.Key), end: string(r.RangeEnd), prevKV: r.PrevKv}
	if v.key == "" {
		v.key = "\x00" // the smallest key there is
	}
	for _, f := range r.Filters {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			v.noPuts = true
		case pb.WatchCreateRequest_NODELETE:
			v.noDeletes = true
		}
	}
	return v
}

// empty tells whether there can't be a key in v.
func (v sight) empty() bool { return v.end != "" && v.end != "\x00" && v.end <= v.key }
