package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// The shapes that all work has in common: those of the figures in the project's goals.
const (
	valueBytes = 256
	keySpace   = 100_000
	listLimit  = 500
	txnPuts    = 4
)

// A work is one thing to measure. Either it has a load, or it runs by itself.
type work struct {
	name, about string
	floor       bool // whether a server that does nothing can answer it
	apart       bool // whether it runs only where it is asked for
	once        bool // whether it takes one process: it has rounds of its own, or varies little
	prepare     func(ctx context.Context, b *bench, p *process) error
	load        *load
	run         func(ctx context.Context, b *bench, p *process) (measure, error)
}

// works lists all there is, in the order of the table.
func works() []work {
	puts := func(name, about string, clients, conns, count int) work {
		return work{name: name, about: about, floor: true, load: &load{conns: conns, clients: clients, count: count, next: nextPut}}
	}
	return []work{
		puts("put1", "put, 1 client", 1, 1, 0),
		puts("put64", "put, 64 clients on 16 connections", 64, 16, 0),
		puts("put1000", "put, 1,000 clients on 100 connections", 1000, 100, 0),
		puts("load", "100,000 puts, 1,000 clients on 100 connections", 1000, 100, 100_000),
		{name: "get256", about: "linearizable get, 256 clients on 64 connections", floor: true, prepare: fill(10_000),
			load: &load{conns: 64, clients: 256, next: nextGet(10_000, false)}},
		{name: "serial256", about: "serializable get, 256 clients on 64 connections", floor: true, prepare: fill(10_000),
			load: &load{conns: 64, clients: 256, next: nextGet(10_000, true)}},
		{name: "list500", about: "list of 500 out of 100,000 keys, 16 clients on 16 connections", prepare: fill(keySpace),
			load: &load{conns: 16, clients: 16, next: nextList}},
		{name: "txn4", about: "transaction of 4 puts, 256 clients on 64 connections", floor: true,
			load: &load{conns: 64, clients: 256, next: nextTxn}},
		jsonLoad("jsonput", "put", nil, nextJSONPut),
		jsonLoad("jsonget", "linearizable get", fill(10_000), nextJSONGet(10_000)),
		jsonLoad("jsonlist", "list of 500 out of 100,000 keys", fill(keySpace), nextJSONList),
		{name: "fanout", about: "1,024 watchers on 16 keys while 64 clients put them", run: fanout},
		{name: "idle", apart: true, once: true, about: "memory that 10,000 idle watchers on 100 streams add", run: idle},
		{name: "behind", apart: true, once: true, about: "puts at a fixed rate beside a watcher 500,000 revisions behind and one that never reads", run: behind},
		{name: "large", apart: true, about: "500,000 keys written twice: memory, start, and the longest put beside a snapshot, a compaction, a defragmentation", run: large},
		{name: "authenticate", apart: true, about: "right passwords of 20 users again and again, 64 clients on 16 connections", prepare: addUsers,
			load: &load{conns: 16, clients: 64, next: nextAuthenticate}},
		{name: "users64", apart: true, once: true, about: "put64 without users and with them, in turn", run: users(load{conns: 16, clients: 64, next: nextPut})},
		{name: "users1000", apart: true, once: true, about: "put1000 without users and with them, in turn", run: users(load{conns: 100, clients: 1000, next: nextPut})},
		{name: "guess", apart: true, once: true, about: "puts at a fixed rate beside 200 wrong passwords a second", prepare: addUsers, run: guess},
		{name: "proxyput", apart: true, about: "put by a gRPC proxy before Keelson, 64 clients on 16 connections",
			run: proxied(load{conns: 16, clients: 64, next: nextPut}, nil)},
		{name: "proxyget", apart: true, about: "linearizable get by a gRPC proxy before Keelson, 256 clients on 64 connections",
			run: proxied(load{conns: 64, clients: 256, next: nextGet(10_000, false)}, fill(10_000))},
		{name: "keepalive", about: "lease keep-alive, 256 streams on 64 connections", run: keepAlive},
	}
}

// keyOf gives the key of 16 bytes with a number.
func keyOf(n int) []byte { return fmt.Appendf(make([]byte, 0, 16), "bench/%010d", n) }

func someValue() []byte { return randomValue(valueBytes) }

// randomValue is different each time and does not compress. n is a multiple of 8.
func randomValue(n int) []byte {
	v := make([]byte, n)
	for i := 0; i < len(v); i += 8 {
		binary.LittleEndian.PutUint64(v[i:], rand.Uint64())
	}
	return v
}

// encode panics on what cannot happen: every message is built here.
func encode(m proto.Message) frame {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func putOf(n int) *pb.PutRequest { return &pb.PutRequest{Key: keyOf(n), Value: someValue()} }

func nextPut(int, int) request {
	return request{pb.KV_Put_FullMethodName, encode(putOf(rand.IntN(keySpace)))}
}

func nextGet(keys int, serializable bool) func(int, int) request {
	return func(int, int) request {
		return request{pb.KV_Range_FullMethodName, encode(&pb.RangeRequest{Key: keyOf(rand.IntN(keys)), Serializable: serializable})}
	}
}

func nextList(int, int) request {
	r := &pb.RangeRequest{Key: keyOf(rand.IntN(keySpace - listLimit)), RangeEnd: []byte("bench0"), Limit: listLimit}
	return request{pb.KV_Range_FullMethodName, encode(r)}
}

func nextTxn(int, int) request {
	t := &pb.TxnRequest{}
	from := rand.IntN(keySpace - txnPuts)
	for i := range txnPuts {
		t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: putOf(from + i)}})
	}
	return request{pb.KV_Txn_FullMethodName, encode(t)}
}

// fill puts every key up to n once, and checks that a list finds them.
func fill(n int) func(context.Context, *bench, *process) error {
	return func(ctx context.Context, b *bench, p *process) error {
		if p.name != keelson && p.name != peer {
			return nil
		}
		l := load{conns: 16, clients: 256, count: n, next: func(_, i int) request {
			return request{pb.KV_Put_FullMethodName, encode(putOf(i))}
		}}
		m, err := l.run(ctx, p)
		if err != nil || m.Errors > 0 {
			return fmt.Errorf("bench: fill %s: %d errors: %w", p.name, m.Errors, err)
		}
		c, err := p.dial(1)
		if err != nil {
			return err
		}
		defer c.close()
		var r pb.RangeResponse
		if err := c.call(ctx, pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("bench/"), RangeEnd: []byte("bench0"), Limit: listLimit}, &r); err != nil {
			return err
		}
		if len(r.Kvs) != min(listLimit, n) || r.Count != int64(n) {
			return fmt.Errorf("bench: %s lists %d keys of %d, not of %d", p.name, len(r.Kvs), r.Count, n)
		}
		return nil
	}
}

// measure runs a work's own load or its own way.
func (w *work) measure(ctx context.Context, b *bench, p *process) (measure, error) {
	if w.prepare != nil {
		if err := w.prepare(ctx, b, p); err != nil {
			return measure{}, err
		}
	}
	if w.run != nil {
		return w.run(ctx, b, p)
	}
	l := *w.load
	l.duration, l.warm = b.duration, b.duration/5
	if b.rate > 0 {
		l.rate = b.rate
	}
	if b.quick && l.count > 0 {
		l.count = quickCount
	}
	if b.profiles != "" && p.name == keelson {
		done := make(chan error, 1)
		go func() {
			waitUntil(ctx, time.Now().Add(l.warm))
			done <- p.profile(b.profiles+"/"+w.name+".pprof", l.duration)
		}()
		defer func() { b.complain(<-done) }()
	}
	return l.run(ctx, p)
}
