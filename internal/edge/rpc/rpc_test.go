package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keelson/internal/server"
	"keelson/internal/state/mvcc"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestErrorsGolden(t *testing.T) {
	var b strings.Builder
	line := func(err error) {
		s := status.Convert(toStatus(fmt.Errorf("somewhere: %w", err)))
		fmt.Fprintf(&b, "%s -> %s: %s\n", err, s.Code(), s.Message())
	}
	for _, r := range table {
		line(r.err)
	}
	line(context.Canceled)
	line(context.DeadlineExceeded)
	line(rpctypes.ErrGRPCPermissionDenied)
	const golden = "testdata/errors.golden"
	if *rewrite {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the table has changed; what clients see is part of the protocol. Got:\n%s", b.String())
	}
}

func TestErrorsByText(t *testing.T) {
	for err, want := range map[error]codes.Code{
		errors.New("etcdserver: can only promote a learner member which is in sync with leader"): codes.FailedPrecondition,
		errors.New("etcdserver: user name not found"):                                            codes.FailedPrecondition,
		errors.New("something else"):                                                             codes.Unknown,
	} {
		got := status.Convert(toStatus(err))
		if got.Code() != want || got.Message() != err.Error() {
			t.Errorf("%v: got %v", err, got)
		}
	}
}

func TestKV(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	f.put(t, "a", "1")
	put, err := f.kv.Put(ctx, &pb.PutRequest{Key: []byte("a"), Value: []byte("2"), PrevKv: true})
	if err != nil || string(put.PrevKv.GetValue()) != "1" || put.Header.MemberId != 2 || put.Header.RaftTerm != 3 {
		t.Fatal(put, err)
	}
	f.put(t, "b", strings.Repeat("x", 200_000))
	r, err := f.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	if err != nil || r.Count != 2 || string(r.Kvs[0].Value) != "2" || r.Kvs[0].Version != 2 || len(r.Kvs[1].Value) != 200_000 {
		t.Fatal(r, err)
	}
	if keys, err := f.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), KeysOnly: true}); err != nil || keys.Kvs[0].Value != nil {
		t.Fatal(keys, err)
	}
	f.checkStream(ctx, t, r)
	inner := &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("z"), Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 9}}},
		Failure: []*pb.RequestOp{putOp([]byte("n"), []byte("nested"), 0)},
	}
	txn, err := f.kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}}, getOp(&pb.RangeRequest{Key: []byte("n")}), deleteOp([]byte("b")),
	}})
	if err != nil || !txn.Succeeded || txn.Responses[0].GetResponseTxn().Succeeded ||
		string(txn.Responses[1].GetResponseRange().Kvs[0].Value) != "nested" || txn.Responses[2].GetResponseDeleteRange().Deleted != 1 {
		t.Fatal(txn, err)
	}
	del, err := f.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("a"), PrevKv: true})
	if err != nil || del.Deleted != 1 || string(del.PrevKvs[0].Key) != "a" {
		t.Fatal(del, err)
	}
	if _, err := f.kv.Compact(ctx, &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	_, err = f.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Revision: 2})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
	_, err = f.kv.Range(ctx, &pb.RangeRequest{})
	wantError(t, err, rpctypes.ErrGRPCEmptyKey)
}

// checkStream holds a streamed range equal to the plain one, and its last chunk alone to have more than keys.
func (f *fixture) checkStream(ctx context.Context, t *testing.T, want *pb.RangeResponse) {
	t.Helper()
	s, err := f.kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	got := &pb.RangeResponse{}
	for {
		part, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || got.Header != nil {
			t.Fatal(part, err)
		}
		proto.Merge(got, part.RangeResponse)
	}
	if !proto.Equal(got, want) {
		t.Fatalf("streamed %v, want %v", got, want)
	}
	s, err = f.kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("a"), SortOrder: pb.RangeRequest_DESCEND})
	if err == nil {
		_, err = s.Recv()
	}
	wantError(t, err, status.Error(codes.Unimplemented, server.ErrStreamSorted.Error()))
}

func wantError(t testing.TB, got, want error) {
	t.Helper()
	g, w := status.Convert(got), status.Convert(want)
	if g.Code() != w.Code() || g.Message() != w.Message() {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

// TestRequestsOutliveTheReceiveBuffer: a stored key must not change when grpc uses its buffers again.
func TestRequestsOutliveTheReceiveBuffer(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	for i := range 200 {
		f.put(t, fmt.Sprintf("key%03d", i), strings.Repeat(string(rune('a'+i%26)), 3000))
	}
	r, err := f.kv.Range(ctx, &pb.RangeRequest{Key: []byte("key"), RangeEnd: []byte{0}})
	if err != nil || r.Count != 200 {
		t.Fatal(err)
	}
	for i, kv := range r.Kvs {
		if string(kv.Key) != fmt.Sprintf("key%03d", i) || string(kv.Value) != strings.Repeat(string(rune('a'+i%26)), 3000) {
			t.Fatalf("key %d was changed: %q", i, kv.Key)
		}
	}
}

func TestTooLargeForTheServer(t *testing.T) {
	f, ctx := serve(t, Options{MaxRequestBytes: 1 << 20}), testContext(t)
	f.put(t, "a", strings.Repeat("x", 1<<20+requestOverheadBytes-100))
	_, err := f.kv.Put(ctx, &pb.PutRequest{Key: []byte("a"), Value: make([]byte, 1<<20+requestOverheadBytes)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatal(err)
	}
}

func TestGate(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	ask := metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	f.leaderless.Store(true)
	f.put(t, "a", "1") // not asked for
	_, err := f.kv.Put(ask, &pb.PutRequest{Key: []byte("a")})
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
	w, err := pb.NewWatchClient(f.conn).Watch(ask)
	if err == nil {
		_, err = w.Recv()
	}
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
	f.leaderless.Store(false)

	bad := metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataClientAPIVersionKey+"-bin", "x", rpctypes.MetadataClientAPIVersionKey, "3.7")
	if _, err := f.kv.Put(bad, &pb.PutRequest{Key: []byte("a")}); err != nil {
		t.Fatal(err)
	}

	f.learner.Store(true)
	_, err = f.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
	wantError(t, err, rpctypes.ErrGRPCNotSupportedForLearner)
	if _, err = f.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Serializable: true}); err != nil {
		t.Fatal(err)
	}
	if _, err = pb.NewMaintenanceClient(f.conn).Status(ctx, &pb.StatusRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err = pb.NewLeaseClient(f.conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 5})
	wantError(t, err, rpctypes.ErrGRPCNotSupportedForLearner)
	f.checkLearnerStreams(ctx, t)
}

func (f *fixture) checkLearnerStreams(ctx context.Context, t *testing.T) {
	t.Helper()
	s, err := f.kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("a"), Serializable: true})
	if err == nil {
		_, err = s.Recv()
	}
	wantError(t, err, rpctypes.ErrGRPCNotSupportedForLearner)
	snap, err := pb.NewMaintenanceClient(f.conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err == nil {
		_, err = snap.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestStreamsEndWithoutALeader(t *testing.T) {
	f, ctx := serve(t, Options{ElectionTimeout: 5 * time.Millisecond}), testContext(t)
	ask := metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	w, err := pb.NewWatchClient(f.conn).Watch(ask)
	if err != nil {
		t.Fatal(err)
	}
	k, err := pb.NewLeaseClient(f.conn).LeaseKeepAlive(ask)
	if err != nil {
		t.Fatal(err)
	}
	free, err := pb.NewWatchClient(f.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create(t, w, &pb.WatchCreateRequest{Key: []byte("a")})
	create(t, free, &pb.WatchCreateRequest{Key: []byte("a")})
	if err := k.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Recv(); err != nil {
		t.Fatal(err)
	}
	f.leaderless.Store(true)
	_, err = w.Recv()
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
	_, err = k.Recv()
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
	f.put(t, "a", "1")
	if resp, err := free.Recv(); err != nil || len(resp.Events) != 1 {
		t.Fatal(resp, err)
	}
}

func create(t testing.TB, w pb.Watch_WatchClient, r *pb.WatchCreateRequest) int64 {
	t.Helper()
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
		t.Fatal(err)
	}
	resp := recv(t, w)
	if !resp.Created || resp.Canceled {
		t.Fatal(resp)
	}
	return resp.WatchId
}

func recv(t testing.TB, w pb.Watch_WatchClient) *pb.WatchResponse {
	t.Helper()
	resp, err := w.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestWatch(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	w, err := pb.NewWatchClient(f.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := create(t, w, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c"), PrevKv: true})
	for i, want := range []string{"1", "2"} {
		f.put(t, "a", want)
		e := recv(t, w)
		if e.WatchId != id || len(e.Events) != 1 || string(e.Events[0].Kv.Value) != want || e.Header.MemberId != 2 {
			t.Fatal(e)
		}
		if (e.Events[0].PrevKv != nil) != (i == 1) {
			t.Fatal(e)
		}
	}
	send := func(r *pb.WatchRequest) {
		if err := w.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
	if p := recv(t, w); p.WatchId != -1 || len(p.Events) != 0 || p.Header.Revision != 3 {
		t.Fatal(p)
	}
	refused := func(r *pb.WatchCreateRequest, reason string) {
		t.Helper()
		send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
		if resp := recv(t, w); !resp.Created || !resp.Canceled || resp.WatchId != -1 || resp.CancelReason != reason {
			t.Fatal(resp)
		}
	}
	refused(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: -1}, "etcdserver: mvcc: required revision has been compacted")
	refused(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")}, "mvcc: watcher range is empty")
	create(t, w, &pb.WatchCreateRequest{Key: []byte("x"), WatchId: 77})
	refused(&pb.WatchCreateRequest{Key: []byte("x"), WatchId: 77}, "mvcc: duplicate watch ID provided on the WatchStream")
	send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
	if c := recv(t, w); !c.Canceled || c.WatchId != id || c.Created {
		t.Fatal(c)
	}
	// No more requests is not the end of the stream.
	if err := w.CloseSend(); err != nil {
		t.Fatal(err)
	}
	f.put(t, "x", "3")
	if e := recv(t, w); e.WatchId != 77 || len(e.Events) != 1 {
		t.Fatal(e)
	}
}

func TestWatchFiltersAndCompaction(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	w, err := pb.NewWatchClient(f.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create(t, w, &pb.WatchCreateRequest{Key: []byte("a"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}})
	f.put(t, "a", "1")
	if _, err := f.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	if e := recv(t, w); len(e.Events) != 1 || e.Events[0].Type != 1 || e.Events[0].Kv.ModRevision != 3 || e.Events[0].Kv.Value != nil {
		t.Fatal(e)
	}
	if _, err := f.kv.Compact(ctx, &pb.CompactionRequest{Revision: 3}); err != nil {
		t.Fatal(err)
	}
	id := create(t, w, &pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2})
	if c := recv(t, w); !c.Canceled || c.CompactRevision != 3 || c.WatchId != id {
		t.Fatal(c)
	}
}

func TestLease(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	c := pb.NewLeaseClient(f.conn)
	if _, err := c.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 5, TTL: 9}); err != nil {
		t.Fatal(err)
	}
	_, err := c.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 5, TTL: 9})
	wantError(t, err, rpctypes.ErrGRPCLeaseExist)
	if ttl, err := c.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 6}); err != nil || ttl.TTL != -1 || ttl.ID != 6 || ttl.Header == nil {
		t.Fatal(ttl, err)
	}
	s, err := c.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[int64]int64{5: 9, 6: 0} {
		if err := s.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recv(); err != nil || r.ID != id || r.TTL != want || r.Header.ClusterId != 1 {
			t.Fatal(r, err)
		}
	}
	f.failWith(server.ErrTimeout)
	if err := s.Send(&pb.LeaseKeepAliveRequest{ID: 5}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Recv()
	wantError(t, err, rpctypes.ErrGRPCTimeout)
}

func TestClusterAndMaintenance(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	c := pb.NewClusterClient(f.conn)
	f.failWith(server.ErrBadPeerURLs)
	_, err := c.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"nonsense"}})
	wantError(t, err, rpctypes.ErrGRPCMemberBadURLs)
	f.failWith(nil)
	if r, err := c.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:1"}}); err != nil || len(r.Member.PeerURLs) != 1 {
		t.Fatal(r, err)
	}
	f.snapshot = bytes.Repeat([]byte("page"), 3*snapshotChunkBytes/4+10)
	s, err := pb.NewMaintenanceClient(f.conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	left := uint64(len(f.snapshot))
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || r.Version != "3.7.0" {
			t.Fatal(r, err)
		}
		if left -= min(left, uint64(len(r.Blob))); r.RemainingBytes != left {
			t.Fatalf("remaining %d, want %d", r.RemainingBytes, left)
		}
		got = append(got, r.Blob...)
	}
	sum := sha256.Sum256(f.snapshot)
	if !bytes.Equal(got, append(f.snapshot, sum[:]...)) {
		t.Fatalf("got %d bytes, want the snapshot of %d and its hash", len(got), len(f.snapshot))
	}
}

func TestBuffers(t *testing.T) {
	p := new(buffers)
	for n, want := range map[int]int{
		0: 4 << 10, 1: 4 << 10, 4 << 10: 4 << 10, 4<<10 + 1: 16 << 10, 16 << 10: 16 << 10, 16<<10 + 1: 64 << 10,
		256<<10 + 1: 1 << 20, 1 << 20: 1 << 20, 1<<20 + 1: 1<<20 + 1,
	} {
		b := p.Get(n)
		if len(*b) != n || cap(*b) < want || n <= bufferBytesMax && cap(*b) != want {
			t.Errorf("%d bytes: length %d of %d, want %d", n, len(*b), cap(*b), want)
		}
		p.Put(b)
		if again := p.Get(n); len(*again) != n {
			t.Errorf("%d bytes: length %d the second time", n, len(*again))
		}
	}
	odd := make([]byte, 5000)
	p.Put(&odd)
}

func TestHealth(t *testing.T) {
	f, ctx := serve(t, Options{}), testContext(t)
	c := healthpb.NewHealthClient(f.conn)
	for _, serving := range []bool{true, false, true} {
		f.srv.SetServing(serving)
		r, err := c.Check(ctx, &healthpb.HealthCheckRequest{})
		if err != nil || (r.Status == healthpb.HealthCheckResponse_SERVING) != serving {
			t.Fatal(r, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	f, ctx := serve(t, Options{ExtensiveMetrics: true}), testContext(t)
	f.put(t, "a", "1")
	f.failWith(mvcc.ErrFutureRev)
	_, _ = f.kv.Put(metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataClientAPIVersionKey, "3.7"), &pb.PutRequest{Key: []byte("a")})
	only := func(name, label string) (lines []string) {
		fams, err := f.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, fam := range fams {
			if fam.GetName() != name {
				continue
			}
			for _, m := range fam.Metric {
				if s := m.String(); strings.Contains(s, label) && !strings.Contains(s, "counter:{value:0") {
					lines = append(lines, s)
				}
			}
		}
		return lines
	}
	if got := only("grpc_server_handled_total", `"Put"`); len(got) != 2 {
		t.Errorf("handled: %q, want OK and OutOfRange", got)
	}
	if got := only("etcd_server_client_requests_total", "3.7"); len(got) != 1 {
		t.Errorf("client requests: %q", got)
	}
	if got := only("grpc_server_handling_seconds", `"Put"`); len(got) != 1 {
		t.Errorf("durations: %q", got)
	}
	for _, name := range []string{"etcd_network_client_grpc_sent_bytes_total", "etcd_network_client_grpc_received_bytes_total"} {
		if got := only(name, ""); len(got) != 1 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestSlowLog(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	f := serve(t, Options{Logger: zap.New(core), WarnUnary: time.Nanosecond})
	f.put(t, "secretless", "a secret value")
	got := logs.FilterMessage("request stats").All()
	if len(got) != 1 || got[0].Level != zapcore.WarnLevel {
		t.Fatal(got)
	}
	fields := got[0].ContextMap()
	content := fmt.Sprint(fields["request content"])
	if fields["response type"] != "/etcdserverpb.KV/Put" || fields["request count"] != int64(1) ||
		!strings.Contains(content, "secretless") || strings.Contains(content, "a secret value") {
		t.Fatal(fields)
	}
}
