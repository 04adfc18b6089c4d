package discoverysvc

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// waitTime is how long a request waits at most. Then it gets an empty answer, as clients of v2 know it, and asks again.
	waitTime = 5 * time.Minute
	// waitsMax, waitsAddressMax and waitsTokenMax bound the requests that wait at once: one holds about 20 KiB with its
	// connection.
	waitsMax        = 10_000
	waitsAddressMax = 250
	waitsTokenMax   = SizeMax + 2*spareMembers
	// retryFollow is the pause after the watch of all tokens broke off.
	retryFollow = time.Second
)

// waits wakes the requests that wait for a token to change. They look for themselves what is new: to be woken for nothing
// does no harm.
type waits struct {
	longest time.Duration // waitTime, but in tests
	gauge   prometheus.Gauge

	mu      sync.Mutex // guards the rest
	tokens  map[string]map[*waiting]struct{}
	from    map[netip.Addr]int
	count   int
	closed  bool
	stopped chan struct{} // closed with it
}

// waiting is one of them.
type waiting struct{ news chan struct{} }

func newWaits(gauge prometheus.Gauge) *waits {
	return &waits{longest: waitTime, gauge: gauge, tokens: map[string]map[*waiting]struct{}{}, from: map[netip.Addr]int{}, stopped: make(chan struct{})}
}

// join adds a request of an address; leave must be called at its end.
func (x *waits) join(token string, from netip.Addr) (w *waiting, leave func(), err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || x.count >= waitsMax || x.from[from] >= waitsAddressMax || len(x.tokens[token]) >= waitsTokenMax {
		return nil, nil, errBusy
	}
	w = &waiting{make(chan struct{}, 1)}
	if x.tokens[token] == nil {
		x.tokens[token] = map[*waiting]struct{}{}
	}
	x.tokens[token][w] = struct{}{}
	x.from[from]++
	x.count++
	x.gauge.Inc()
	return w, func() { x.leave(token, from, w) }, nil
}

func (x *waits) leave(token string, from netip.Addr, w *waiting) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.count--
	x.gauge.Dec()
	if x.from[from]--; x.from[from] == 0 {
		delete(x.from, from)
	}
	if delete(x.tokens[token], w); len(x.tokens[token]) == 0 {
		delete(x.tokens, token)
	}
}

// wake has those look who wait for a token.
func (x *waits) wake(token string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for w := range x.tokens[token] {
		w.wake()
	}
}

func (x *waits) wakeAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, all := range x.tokens {
		for w := range all {
			w.wake()
		}
	}
}

func (w *waiting) wake() {
	select {
	case w.news <- struct{}{}:
	default: // it has not looked yet since it was woken last
	}
}

func (x *waits) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	close(x.stopped)
}

// follow watches all tokens, for those who wait, until ctx ends.
func (s *Service) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.followOnce(ctx); err != nil && ctx.Err() == nil {
			s.tokens.failed(err)
		}
		t := s.o.Clock.NewTimer(retryFollow)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// errCanceled is returned when the cluster ended the watch.
var errCanceled = errors.New("discovery: the watch of the tokens was canceled")

// followOnce watches until the watch breaks off. Once it has begun, everybody looks: what came before is not told.
func (s *Service) followOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := s.tokens.store.Watch.Watch(ctx)
	if err != nil {
		return err
	}
	all := s.o.Prefix.Nodes()
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte(all.Key), RangeEnd: []byte(all.End)},
	}})
	for err == nil {
		var resp *pb.WatchResponse
		if resp, err = stream.Recv(); err != nil {
			break
		}
		if resp.Canceled {
			return errors.Join(errCanceled, errors.New(resp.CancelReason))
		}
		if resp.Created {
			s.waits.wakeAll()
		}
		for _, e := range resp.Events {
			path, _ := s.o.Prefix.Path(string(e.Kv.Key))
			token, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
			s.waits.wake(token)
		}
	}
	return err
}
