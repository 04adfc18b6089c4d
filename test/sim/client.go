package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/internal/kit/wire"
	"keelson/internal/server"
)

// client sends one request after the other, each to any member.
type client struct {
	n       int
	cluster *cluster
	record  *record
	r       *rand.Rand
	values  int
	leases  []*granted
	last    map[string]string // what was last seen at a key
}

// granted is a lease of a client's.
type granted struct {
	id, ttl int64
	// alive is when it was last known to be renewed, as of the call: it lives for ttl seconds longer at least.
	alive   time.Duration
	revoked bool
	keys    []string
}

// ttlMax is the longest lease asked for, in seconds; two seconds is the shortest that members with these time-outs give.
const ttlMax = 5

// Keys are few, so that clients meet.
const keyCount = 4

func (c *client) key() string { return fmt.Sprintf("k/%d", c.r.IntN(keyCount)) }

// run works through n requests.
func (c *client) run(n int) {
	for range n {
		time.Sleep(between(c.r, 0, c.cluster.plan.Pause))
		all := c.cluster.serving()
		if len(all) == 0 {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		c.one(all[c.r.IntN(len(all))])
	}
}

func (c *client) one(l *life) {
	switch n := c.r.IntN(100); {
	case n < 30:
		c.put(l, c.key())
	case n < 48:
		c.get(l, c.key(), false)
	case n < 55:
		c.get(l, c.key(), true)
	case n < 60:
		c.past(l, c.key())
	case n < 65:
		c.list(l)
	case n < 73:
		c.delete(l, c.key())
	case n < 88:
		c.swap(l, c.key())
	case n < 93:
		c.pair(l)
	default:
		c.lease(l)
	}
}

// do runs one request and tells whether its answer may be believed: a dead member's may not.
func (c *client) do(l *life, ops []*op, f func(context.Context, *server.Member) error) bool {
	ctx, cancel := context.WithTimeout(byRoot(), between(c.r, 500*time.Millisecond, 3*time.Second))
	defer cancel()
	call, at := c.record.tick(), time.Since(c.cluster.journal.start)
	err := f(ctx, l.member)
	end := c.record.tick()
	known := err == nil && !l.dead.Load()
	for _, o := range ops {
		o.client, o.call, o.end, o.at, o.known = c.n, call, end, at, known
		c.cluster.journal.add(l.node.name, "%s", o)
	}
	if err != nil {
		c.cluster.journal.add(l.node.name, "c%d: %v", c.n, err)
		if len(ops) > 0 && (ops[0].kind == opDelete || ops[0].kind == opGet) {
			if err := refusedForSpace(err); err != nil {
				c.cluster.fail("%v: %w", ops[0], err)
			}
		}
	}
	c.record.add(ops...)
	return known
}

func (c *client) fresh() string {
	c.values++
	return fmt.Sprintf("c%d.%d", c.n, c.values)
}

func (c *client) put(l *life, key string) {
	o := &op{kind: opPut, key: key, value: c.fresh()}
	c.do(l, []*op{o}, func(ctx context.Context, m *server.Member) error {
		if d := c.cluster.plan.Faults.ForgetWrites; d > 0 && c.r.Float64() < d {
			o.rev = m.Header().Revision + 1
			return nil
		}
		resp, err := m.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(o.value)})
		if err == nil {
			o.rev = resp.Header.Revision
		}
		return err
	})
}

func (c *client) get(l *life, key string, serial bool) {
	o := &op{kind: opGet, key: key, serial: serial}
	if c.do(l, []*op{o}, func(ctx context.Context, m *server.Member) error {
		early := !serial && c.cluster.plan.Faults.StaleReads > 0 && c.r.Float64() < c.cluster.plan.Faults.StaleReads
		resp, err := m.Range(ctx, &pb.RangeRequest{Key: []byte(key), Serializable: serial || early})
		if err == nil {
			err = o.read(resp)
		}
		return err
	}) {
		c.last[key] = o.got
	}
}

// past reads a key as it was some revisions ago.
func (c *client) past(l *life, key string) {
	o := &op{kind: opGet, key: key, serial: true}
	c.do(l, []*op{o}, func(ctx context.Context, m *server.Member) error {
		rev := max(1, m.Header().Revision-c.r.Int64N(30))
		resp, err := m.Range(ctx, &pb.RangeRequest{Key: []byte(key), Revision: rev})
		if err == nil {
			err = o.read(resp)
		}
		o.rev = rev
		return err
	})
}

// list reads all keys at once.
func (c *client) list(l *life) {
	var ops []*op
	for i := range keyCount {
		ops = append(ops, &op{kind: opGet, key: fmt.Sprintf("k/%d", i)})
	}
	c.do(l, ops, func(ctx context.Context, m *server.Member) error {
		resp, err := m.Range(ctx, &pb.RangeRequest{Key: []byte("k/"), RangeEnd: []byte(prefixEnd("k/"))})
		if err != nil {
			return err
		}
		for _, o := range ops {
			one := &wire.RangeResponse{Header: resp.Header}
			for _, b := range resp.KVs {
				if kv, err := wire.ParseKeyValue(b); err == nil && string(kv.Key) == o.key {
					one.KVs = append(one.KVs, b)
				}
			}
			if err := o.read(one); err != nil {
				return err
			}
		}
		return nil
	})
}

// read takes in a range's answer.
func (o *op) read(r *wire.RangeResponse) error {
	if r.Header != nil {
		o.rev = r.Header.Revision
	}
	if len(r.KVs) == 0 {
		return nil
	}
	kv, err := wire.ParseKeyValue(r.KVs[0])
	if err != nil {
		return err
	}
	o.found, o.got, o.mod = true, string(kv.Value), kv.Mod
	return nil
}

func (c *client) delete(l *life, key string) {
	o := &op{kind: opDelete, key: key}
	c.do(l, []*op{o}, func(ctx context.Context, m *server.Member) error {
		resp, err := m.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(key)})
		if err == nil {
			o.rev, o.deleted = resp.Header.Revision, resp.Deleted
		}
		return err
	})
}

// swap compares with what the client saw last.
func (c *client) swap(l *life, key string) {
	o := &op{kind: opSwap, key: key, value: c.fresh(), expect: c.last[key]}
	cmp := &pb.Compare{Key: []byte(key), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte(o.expect)}}
	if o.expect == "" {
		cmp = &pb.Compare{Key: []byte(key), Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{}}
	}
	req := &pb.TxnRequest{
		Compare: []*pb.Compare{cmp},
		Success: []*pb.RequestOp{putOp(key, o.value)},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}},
	}
	if !c.do(l, []*op{o}, func(ctx context.Context, m *server.Member) error {
		resp, err := m.Txn(ctx, req)
		if err != nil {
			return err
		}
		o.done, o.rev = resp.Succeeded, resp.Header.Revision
		if !o.done {
			return o.read(resp.Responses[0].Range)
		}
		return nil
	}) {
		return
	}
	c.last[key] = o.got
	if o.done {
		c.last[key] = o.value
	}
}

func putOp(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

// pair writes two keys at once: both or none, in one revision.
func (c *client) pair(l *life) {
	first := c.r.IntN(keyCount - 1)
	a := &op{kind: opPut, key: fmt.Sprintf("k/%d", first), value: c.fresh()}
	b := &op{kind: opPut, key: fmt.Sprintf("k/%d", first+1), value: a.value}
	c.do(l, []*op{a, b}, func(ctx context.Context, m *server.Member) error {
		resp, err := m.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{putOp(a.key, a.value), putOp(b.key, b.value)}})
		if err == nil {
			a.rev, b.rev = resp.Header.Revision, resp.Header.Revision
		}
		return err
	})
}

// lease grants one, binds a key to one, renews one or revokes one. Leased keys are nobody else's.
func (c *client) lease(l *life) {
	n := c.r.IntN(4)
	if len(c.leases) == 0 || n == 0 {
		g := &granted{}
		if c.do(l, nil, func(ctx context.Context, m *server.Member) error {
			g.alive = time.Since(c.cluster.journal.start)
			resp, err := m.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 2 + c.r.Int64N(ttlMax-1)})
			if err == nil {
				g.id, g.ttl = resp.ID, resp.TTL
			}
			return err
		}) {
			c.leases = append(c.leases, g)
		}
		return
	}
	g := c.leases[c.r.IntN(len(c.leases))]
	switch n {
	case 1:
		o := &op{kind: opPut, key: fmt.Sprintf("l/%d/%d", c.n, c.values), value: c.fresh()}
		if c.do(l, []*op{o}, func(ctx context.Context, m *server.Member) error {
			resp, err := m.Put(ctx, &pb.PutRequest{Key: []byte(o.key), Value: []byte(o.value), Lease: g.id})
			if err == nil {
				o.rev = resp.Header.Revision
			}
			return err
		}) {
			g.keys = append(g.keys, o.key)
		}
	case 2:
		at := time.Since(c.cluster.journal.start)
		if c.do(l, nil, func(ctx context.Context, m *server.Member) error { _, err := m.LeaseRenew(ctx, g.id); return err }) {
			g.alive = at
		}
	default:
		if c.r.IntN(3) > 0 {
			return
		}
		g.revoked = true
		c.do(l, nil, func(ctx context.Context, m *server.Member) error {
			_, err := m.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: g.id})
			return err
		})
	}
}
