package rpc

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"keelson/internal/kit/wire"
	"keelson/internal/server"
	"keelson/internal/state/auth"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/watch"
	"keelson/internal/storage/schema"
)

// testMember answers from a real key store and a real watch hub, without a log. What a test wants to go wrong is set
// in its fields.
type testMember struct {
	Member // the methods that no test calls

	mu    sync.Mutex
	store *mvcc.Store
	hub   *watch.Hub
	lease *lease.Table

	leaderless, learner atomic.Bool
	fail                atomic.Pointer[error] // what Put, LeaseRenew and Status fail with
	snapshot            []byte
	rules               atomic.Pointer[rules] // nil: auth is not enabled
}

// rules is what an auth that is enabled answers; nil: it allows all.
type rules struct {
	may      func(c *auth.Credentials, kind auth.Kind) error
	mayWatch func(c *auth.Credentials, key, end []byte) error
	still    func() error // may go on to watch
}

func (m *testMember) AuthEnabled() bool    { return m.rules.Load() != nil }
func (m *testMember) AuthRevision() uint64 { return 1 }

func (m *testMember) May(ctx context.Context, kind auth.Kind) error {
	if r := m.rules.Load(); r != nil && r.may != nil {
		return r.may(auth.From(ctx), kind)
	}
	return nil
}

func (m *testMember) MayWatch(ctx context.Context, key, end []byte) (func() error, error) {
	still := func() error {
		if r := m.rules.Load(); r != nil && r.still != nil {
			return r.still()
		}
		return nil
	}
	if r := m.rules.Load(); r != nil && r.mayWatch != nil {
		return still, r.mayWatch(auth.From(ctx), key, end)
	}
	return still, nil
}

// noHistory is a store that holds nothing: everything is still in memory.
type noHistory struct{}

func (noHistory) Values(revs []schema.Revision) ([][]byte, error) {
	return make([][]byte, len(revs)), nil
}

func (noHistory) Scan(_, _ schema.Revision, _ func(schema.Revision, bool, []byte) bool) error {
	return nil
}

func newTestMember(t testing.TB) *testMember {
	store := mvcc.New(noHistory{}, mvcc.Options{})
	hub := watch.New(watch.Options{}, noHistory{})
	t.Cleanup(hub.Close)
	hub.Reset(store.Rev(), 0)
	m := &testMember{store: store, hub: hub, lease: lease.New(1, lease.Observer{})}
	m.lease.Promote(time.Unix(0, 0), 0)
	return m
}

func (m *testMember) failure() error {
	if p := m.fail.Load(); p != nil {
		return *p
	}
	return nil
}

func (m *testMember) failWith(err error) { m.fail.Store(&err) }

func (m *testMember) Header() wire.Header {
	return wire.Header{ClusterID: 1, MemberID: 2, Revision: m.store.View().Rev(), Term: 3}
}

func (m *testMember) at(rev int64) *wire.Header {
	h := m.Header()
	h.Revision = rev
	return &h
}

func (m *testMember) Watch() *watch.Hub { return m.hub }
func (m *testMember) HasLeader() bool   { return !m.leaderless.Load() }
func (m *testMember) IsLearner() bool   { return m.learner.Load() }

// write runs f in a transaction of the store and publishes it.
func (m *testMember) write(f func(*mvcc.Txn) error) (rev int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.store.Begin()
	err = f(t)
	rev = t.Rev()
	m.hub.Append(t.End())
	m.store.Publish()
	m.hub.Publish(m.store.Rev())
	return rev, err
}

func optionsOf(r *pb.RangeRequest) mvcc.RangeOptions {
	return mvcc.RangeOptions{
		Key: r.Key, End: r.RangeEnd, Rev: r.Revision, Limit: r.Limit,
		Order: mvcc.SortOrder(r.SortOrder), Target: mvcc.SortTarget(r.SortTarget),
		KeysOnly: r.KeysOnly, CountOnly: r.CountOnly, MaxCreate: r.MaxCreateRevision,
	}
}

func (m *testMember) Range(ctx context.Context, r *pb.RangeRequest) (*wire.RangeResponse, error) {
	if len(r.Key) == 0 {
		return nil, server.ErrEmptyKey
	}
	res, err := m.store.View().Range(ctx, optionsOf(r))
	if err != nil {
		return nil, err
	}
	return &wire.RangeResponse{Header: m.at(res.Rev), KVs: res.KVs, More: res.More, Count: res.Count}, nil
}

func (m *testMember) RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*wire.RangeStreamResponse) error) error {
	if r.SortOrder != 0 {
		return server.ErrStreamSorted
	}
	all, err := m.Range(ctx, r)
	if err != nil {
		return err
	}
	for len(all.KVs) > 1 {
		if err := send(&wire.RangeStreamResponse{Range: wire.RangeResponse{KVs: all.KVs[:1]}}); err != nil {
			return err
		}
		all.KVs = all.KVs[1:]
	}
	return send(&wire.RangeStreamResponse{Range: *all})
}

func (m *testMember) Put(_ context.Context, r *pb.PutRequest) (*wire.PutResponse, error) {
	if err := m.failure(); err != nil {
		return nil, err
	}
	resp := &wire.PutResponse{}
	rev, err := m.write(func(t *mvcc.Txn) error {
		_, prev := t.Put(r.Key, r.Value, r.Lease)
		if r.PrevKv {
			resp.PrevKV = prev
		}
		return nil
	})
	resp.Header = m.at(rev)
	return resp, err
}

func (m *testMember) DeleteRange(_ context.Context, r *pb.DeleteRangeRequest) (*wire.DeleteRangeResponse, error) {
	resp := &wire.DeleteRangeResponse{}
	rev, err := m.write(func(t *mvcc.Txn) error {
		var prevs [][]byte
		resp.Deleted, prevs = t.DeleteRange(r.Key, r.RangeEnd)
		if r.PrevKv {
			resp.PrevKVs = prevs
		}
		return nil
	})
	resp.Header = m.at(rev)
	return resp, err
}

func (m *testMember) Txn(_ context.Context, r *pb.TxnRequest) (*wire.TxnResponse, error) {
	var resp *wire.TxnResponse
	rev, err := m.write(func(t *mvcc.Txn) (err error) {
		resp, err = m.txn(t, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	resp.Header = m.at(rev)
	return resp, nil
}

// txn knows comparisons of create revisions, which is what queues use.
func (m *testMember) txn(t *mvcc.Txn, r *pb.TxnRequest) (*wire.TxnResponse, error) {
	resp := &wire.TxnResponse{Succeeded: true}
	for _, c := range r.Compare {
		var create int64
		if b, ok := t.Get(c.Key); ok {
			kv, err := wire.ParseKeyValue(b)
			if err != nil {
				return nil, err
			}
			create = kv.Create
		}
		resp.Succeeded = resp.Succeeded && create == c.GetCreateRevision()
	}
	ops := r.Failure
	if resp.Succeeded {
		ops = r.Success
	}
	for _, op := range ops {
		one, err := m.op(t, op)
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, one)
	}
	return resp, nil
}

func (m *testMember) op(t *mvcc.Txn, op *pb.RequestOp) (out wire.ResponseOp, err error) {
	switch u := op.Request.(type) {
	case *pb.RequestOp_RequestPut:
		if id := u.RequestPut.Lease; id != 0 {
			if _, ok := m.lease.Lookup(id); !ok {
				return out, lease.ErrNotFound
			}
		}
		t.Put(u.RequestPut.Key, u.RequestPut.Value, u.RequestPut.Lease)
		out.Put = &wire.PutResponse{Header: &wire.Header{Revision: t.Rev()}}
	case *pb.RequestOp_RequestRange:
		res, err := t.Range(optionsOf(u.RequestRange))
		if err != nil {
			return out, err
		}
		out.Range = &wire.RangeResponse{Header: &wire.Header{Revision: t.Rev()}, KVs: res.KVs, Count: res.Count}
	case *pb.RequestOp_RequestDeleteRange:
		n, _ := t.DeleteRange(u.RequestDeleteRange.Key, u.RequestDeleteRange.RangeEnd)
		out.DeleteRange = &wire.DeleteRangeResponse{Header: &wire.Header{Revision: t.Rev()}, Deleted: n}
	case *pb.RequestOp_RequestTxn:
		out.Txn, err = m.txn(t, u.RequestTxn)
		if err == nil {
			out.Txn.Header = &wire.Header{Revision: t.Rev()}
		}
	}
	return out, err
}

func (m *testMember) Compact(_ context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.store.Compact(r.Revision); err != nil {
		return nil, err
	}
	m.store.Publish()
	m.hub.Compacted(r.Revision)
	return &pb.CompactionResponse{Header: pbHeader(m.Header())}, nil
}

func (m *testMember) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	id := r.ID
	if id == 0 {
		id = 0x77
	}
	l, err := m.lease.Grant(id, r.TTL)
	if err != nil {
		return nil, err
	}
	return &pb.LeaseGrantResponse{Header: pbHeader(m.Header()), ID: l.ID, TTL: l.TTL}, nil
}

func (m *testMember) LeaseTimeToLive(context.Context, *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return nil, lease.ErrNotFound
}

func (m *testMember) LeaseRenew(_ context.Context, id int64) (int64, error) {
	if err := m.failure(); err != nil {
		return 0, err
	}
	l, ok := m.lease.Lookup(id)
	if !ok {
		return 0, lease.ErrNotFound
	}
	return l.TTL, nil
}

func (m *testMember) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	if err := m.failure(); err != nil {
		return nil, err
	}
	return &pb.StatusResponse{Header: pbHeader(m.Header()), Version: "3.7.3"}, nil
}

func (m *testMember) MemberAdd(_ context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	if err := m.failure(); err != nil {
		return nil, err
	}
	return &pb.MemberAddResponse{Member: &pb.Member{PeerURLs: r.PeerURLs}}, nil
}

func (m *testMember) Snapshot(_ context.Context, begin func(int64, string) io.Writer) error {
	_, err := io.Copy(begin(int64(len(m.snapshot)), "3.7.0"), bytes.NewReader(m.snapshot))
	return err
}

// fixture is a server with a client's connection to it.
type fixture struct {
	*testMember
	srv  *Server
	conn grpc.ClientConnInterface
	reg  *prometheus.Registry
	kv   pb.KVClient
}

func serve(t testing.TB, o Options) *fixture {
	t.Helper()
	f := &fixture{testMember: newTestMember(t), reg: prometheus.NewRegistry()}
	o.Registerer = f.reg
	f.srv = NewServer(f.testMember, o)
	if strings.HasPrefix(t.Name(), inProcess+"/") {
		f.conn = f.srv.InProcess()
		f.kv = pb.NewKVClient(f.conn)
		t.Cleanup(func() {
			f.srv.Stop()
			f.srv.Close()
		})
		return f
	}
	l := bufconn.Listen(1 << 20)
	go f.srv.Serve(l)
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	f.conn, f.kv = conn, pb.NewKVClient(conn)
	t.Cleanup(func() {
		conn.Close()
		f.srv.Stop()
		f.srv.Close()
	})
	return f
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (f *fixture) put(t testing.TB, key, value string) int64 {
	t.Helper()
	resp, err := f.kv.Put(testContext(t), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}
