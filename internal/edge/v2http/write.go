package v2http

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/server"
	"keelson/internal/state/auth"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/v2tree"
)

// write makes one change. It is planned once to find out whether it is refused, and again when its path's turn has come.
func (e *Edge) write(ctx context.Context, q *question) (*v2tree.Event, error) {
	r := q.Request
	if _, err := e.decide(ctx, r, false); err != nil {
		return nil, err
	}
	if r.Expires() {
		var err error
		if r.Lease, err = e.grant(ctx, r.Expiry); err != nil {
			return nil, err
		}
	}
	release, err := e.turns.take(ctx, r.Path)
	if err != nil {
		e.ends.now(r.Lease)
		return nil, err
	}
	defer release()
	for fresh := false; ; fresh = true {
		p, err := e.decide(ctx, r, fresh)
		if err != nil {
			e.ends.now(r.Lease)
			return nil, err
		}
		resp, err := e.member.Txn(ctx, p.Txn)
		if err != nil {
			return nil, err // it may be made yet: its lease stays, and ends by itself
		}
		if resp.Succeeded {
			e.settle(r, p, resp.Header.Revision)
			return p.Event(resp.Header.Revision, e.options.Clock.Now()), nil
		}
	}
}

// decide plans a change on what this member has. A refusal is believed if the view is fresh: a transaction that failed has been
// applied here since the request began. Else the member makes sure first that it is up to date.
func (e *Edge) decide(ctx context.Context, r v2tree.Request, fresh bool) (*v2tree.Plan, error) {
	p, err := e.plan(ctx, r)
	if fresh || !refused(err) {
		return p, err
	}
	if err := e.member.LinearizableRead(ctx); err != nil {
		return nil, err
	}
	return e.plan(ctx, r)
}

// settle looks after leases once a change was made: the node ends when it is to, the lease that it had is of no use any more.
func (e *Edge) settle(r v2tree.Request, p *v2tree.Plan, rev int64) {
	switch path, dir := p.Writes(); {
	case r.Lease == 0:
	case dir:
		e.ends.dirAt(r.Expiry, r.Lease, path, rev)
	default:
		e.ends.at(r.Expiry, r.Lease)
	}
	if freed := p.Freed(); freed != r.Lease {
		e.ends.now(freed)
	}
}

// grant makes a lease for a node that ends at expiry.
func (e *Edge) grant(ctx context.Context, expiry int64) (int64, error) {
	if err := e.member.May(ctx, auth.Login); err != nil {
		return 0, err
	}
	resp, err := e.member.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: leaseSeconds(expiry, e.options.Clock.Now())})
	if err != nil {
		return 0, err
	}
	return resp.ID, nil
}

// plan decides on the newest view. A caller who may not write learns nothing of what is there.
func (e *Edge) plan(ctx context.Context, r v2tree.Request) (*v2tree.Plan, error) {
	return look(ctx, e, func(t v2tree.Tree, v *mvcc.View) (*v2tree.Plan, error) {
		for _, kind := range []auth.Kind{auth.Read, auth.Write} {
			below := r.InOrder || r.Remove && (r.Dir || r.Recursive)
			if err := e.may(ctx, v, kind, r.Path, false); err != nil && !r.InOrder {
				return nil, err
			}
			if below {
				if err := e.may(ctx, v, kind, r.Path, true); err != nil {
					return nil, err
				}
			}
		}
		return t.Plan(r)
	})
}

func refused(err error) bool {
	var v2 *v2tree.Error
	return errors.As(err, &v2)
}

// turns has the writers of one path at this member follow each other: they would only make each other's transactions fail.
// Writers of other paths do not wait.
type turns struct {
	mu      sync.Mutex // guards waiting and the counts in it
	waiting map[string]*turn
}

// turn holds a token while nobody has it.
type turn struct {
	token chan struct{}
	users int
}

// take waits for a path's turn.
func (t *turns) take(ctx context.Context, path string) (release func(), err error) {
	t.mu.Lock()
	x := t.waiting[path]
	if x == nil {
		x = &turn{token: make(chan struct{}, 1)}
		x.token <- struct{}{}
		t.waiting[path] = x
	}
	x.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if x.users--; x.users == 0 {
			delete(t.waiting, path)
		}
	}
	select {
	case <-x.token:
		return func() {
			x.token <- struct{}{}
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, server.ErrTimeout
	}
}
