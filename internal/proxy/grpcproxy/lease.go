package grpcproxy

import (
	"context"
	"errors"
	"io"
	"sync"

	"bytes"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/kit/clock"
)

// keepAlivesMax is how many keep-alives of one client may wait for an answer; it is read no further until some have come.
const keepAlivesMax = 128

// LeaseOptions say how a Lease works.
type LeaseOptions struct {
	// Namespace is what the names of keys begin with; only such keys of a lease are shown, without it.
	Namespace string
	Clock     clock.Clock // nil for the machine's own
}

// Lease serves etcdserverpb.Lease. The keep-alives of all clients go over one stream, or over one for each token that they
// bear. It owns the goroutines of those streams; Close joins them.
type Lease struct {
	pb.UnsafeLeaseServer
	remote    pb.LeaseClient
	namespace []byte
	clock     clock.Clock
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu      sync.Mutex // guards the rest
	closed  bool
	keepers map[caller]*keeper
}

var _ pb.LeaseServer = (*Lease)(nil)

// NewLease gives a Lease before the members of u. It ends with ctx, and must be closed.
func NewLease(ctx context.Context, u *clientv3.Client, o LeaseOptions) *Lease {
	if o.Clock == nil {
		o.Clock = clock.System
	}
	s := &Lease{remote: clientv3.RetryLeaseClient(u), namespace: []byte(o.Namespace), clock: o.Clock, keepers: map[caller]*keeper{}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// Close ends every stream of keep-alives and waits for that.
func (s *Lease) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	return nil
}

// Collectors gives what the Lease counts: nothing yet that etcd's would.
func (s *Lease) Collectors() []prometheus.Collector { return nil }

func (s *Lease) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return s.remote.LeaseGrant(callerOf(ctx).outgoing(ctx), r)
}

func (s *Lease) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return s.remote.LeaseRevoke(callerOf(ctx).outgoing(ctx), r)
}

func (s *Lease) LeaseLeases(ctx context.Context, r *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return s.remote.LeaseLeases(callerOf(ctx).outgoing(ctx), r)
}

func (s *Lease) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	resp, err := s.remote.LeaseTimeToLive(callerOf(ctx).outgoing(ctx), r)
	if err != nil || len(s.namespace) == 0 {
		return resp, err
	}
	var inside [][]byte
	for _, k := range resp.Keys {
		if rest, ok := bytes.CutPrefix(k, s.namespace); ok {
			inside = append(inside, rest)
		}
	}
	resp.Keys = inside
	return resp, nil
}

// LeaseKeepAlive renews one lease for each message.
func (s *Lease) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	k, err := s.keeper(callerOf(stream.Context()))
	if err != nil {
		return err
	}
	defer s.release(k)
	c := &keepAlives{answers: make(chan answer, keepAlivesMax), free: make(chan struct{}, keepAlivesMax), ended: make(chan error, 1)}
	// Ends with the handler: grpc ends a waiting receive once the handler has returned, and gone frees a waiting send.
	gone := make(chan struct{})
	defer func() {
		close(gone)
		k.forget(c)
	}()
	go func() { c.ended <- c.receive(stream, k, gone) }()
	return c.send(stream, s.ctx)
}

// keepAlives is one client's stream of them.
type keepAlives struct {
	// answers has room for every keep-alive that may wait, so that who answers never does.
	answers chan answer
	free    chan struct{} // holds one for each keep-alive that waits
	ended   chan error
	gone    bool // guarded by keeper.mu: nobody reads answers any more
}

// answer is what came for one keep-alive.
type answer struct {
	resp *pb.LeaseKeepAliveResponse
	err  error
}

// receive hands keep-alives to k until the client sends no more.
func (c *keepAlives) receive(stream pb.Lease_LeaseKeepAliveServer, k *keeper, gone <-chan struct{}) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case c.free <- struct{}{}:
		case <-gone:
			return nil
		}
		if !k.ask(r.ID, c) {
			return nil
		}
	}
}

// send gives the client its answers. A client that sends no more gets those that are still to come.
func (c *keepAlives) send(stream pb.Lease_LeaseKeepAliveServer, stop context.Context) error {
	ended := c.ended
	for last := false; !last || len(c.free) > 0; {
		select {
		case a := <-c.answers:
			<-c.free
			if a.err != nil {
				return a.err
			}
			if err := stream.Send(a.resp); err != nil {
				return err
			}
		case err := <-ended:
			if err != nil {
				return err
			}
			last, ended = true, nil
		case <-stream.Context().Done():
			return statusOf(context.Cause(stream.Context()))
		case <-stop.Done():
			return errStopped
		}
	}
	return nil
}

// keeper gives the one stream that c's keep-alives go over. release must follow.
func (s *Lease) keeper(c caller) (*keeper, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errStopped
	}
	k := s.keepers[c]
	if k == nil {
		k = newKeeper(s, c)
		s.keepers[c] = k
		s.running.Add(1)
		go func() {
			defer s.running.Done()
			k.run()
		}()
	}
	k.users++
	return k, nil
}

// release ends k where nobody uses it any more.
func (s *Lease) release(k *keeper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(s.keepers, k.caller)
		k.cancel()
	}
}
