package grpcproxy

import (
	"context"
	"errors"
	"math"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/kit/backoff"
)

// noSuchRevision is later than any: a range at it fails once the member has found that its caller may read the range,
// without work that grows with the range.
const noSuchRevision = math.MaxInt64 - 1

// permits asks the members for leave to watch, with one question for all who want it at a time.
type permits struct {
	mu      sync.Mutex
	asking  map[sight]*permit // under way: too early for who comes now
	waiting map[sight]*permit // asked next
}

// permit is the answer to one question, once done is closed.
type permit struct {
	ctx    context.Context // ends where nobody waits any more
	cancel context.CancelFunc
	users  int // guarded by permits.mu
	done   chan struct{}
	header *pb.ResponseHeader // of a member, at its revision of then
	err    error
}

// permit gives the header of a member at which v may be watched now; its error is the reason why not.
func (s *Watch) permit(ctx context.Context, v sight) (*pb.ResponseHeader, error) {
	s.permits.mu.Lock()
	p := s.permits.waiting[v]
	if p == nil {
		p = &permit{done: make(chan struct{})}
		p.ctx, p.cancel = context.WithCancel(v.caller.outgoing(s.ctx))
		if s.permits.asking[v] != nil {
			s.permits.waiting[v] = p
		} else if !s.ask(v, p) {
			p.err = errStopped
			close(p.done)
		}
	}
	p.users++
	s.permits.mu.Unlock()
	defer s.leave(v, p)
	select {
	case <-p.done:
		return p.header, p.err
	case <-ctx.Done():
		return nil, statusOf(ctx.Err())
	}
}

// leave is for who asked with p and has an answer or gives up.
func (s *Watch) leave(v sight, p *permit) {
	s.permits.mu.Lock()
	defer s.permits.mu.Unlock()
	if p.users--; p.users > 0 {
		return
	}
	p.cancel()
	if s.permits.waiting[v] == p {
		delete(s.permits.waiting, v)
	}
}

// ask starts on p, and on who waits after it. permits.mu is held.
func (s *Watch) ask(v sight, p *permit) bool {
	s.permits.asking[v] = p
	if s.start(func() { s.askAll(v, p) }) {
		return true
	}
	delete(s.permits.asking, v)
	return false
}

func (s *Watch) askAll(v sight, p *permit) {
	for p != nil {
		p.header, p.err = s.askOne(p.ctx, v)
		close(p.done)
		s.permits.mu.Lock()
		p = s.permits.waiting[v]
		delete(s.permits.waiting, v)
		if p == nil {
			delete(s.permits.asking, v)
		} else {
			s.permits.asking[v] = p
		}
		s.permits.mu.Unlock()
	}
}

// askOne asks until a member answers: one that is down is no reason to refuse.
func (s *Watch) askOne(ctx context.Context, v sight) (*pb.ResponseHeader, error) {
	pause := backoff.New(s.clock, pauseFirst, pauseMost)
	for {
		_, err := s.kv.Get(ctx, v.key, clientv3.WithRange(v.end), clientv3.WithRev(noSuchRevision), clientv3.WithSerializable())
		if errors.Is(err, rpctypes.ErrFutureRev) {
			var resp *clientv3.GetResponse
			if resp, err = s.kv.Get(ctx, v.key, clientv3.WithSerializable(), clientv3.WithCountOnly()); err == nil {
				return resp.Header, nil
			}
		}
		if err == nil {
			return nil, errors.New("grpcproxy: a member has answered for a revision that can't be")
		}
		if !passing(err) {
			return nil, err
		}
		if werr := pause.Wait(ctx); werr != nil {
			return nil, errStopped
		}
	}
}
