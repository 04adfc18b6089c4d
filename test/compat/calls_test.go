package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
	"keelson/test/process"
)

// services are the calls of one server, without a client's own checks and retries.
type services struct {
	t     *testing.T
	ctx   context.Context
	begun time.Time
	conn  *grpc.ClientConn
	pb.KVClient
	pb.LeaseClient
	pb.ClusterClient
	pb.MaintenanceClient
	watch    pb.WatchClient
	lock     lockpb.LockClient
	election electionpb.ElectionClient
}

func reach(t *testing.T, m *process.Member) *services {
	t.Helper()
	conn, err := grpc.NewClient(m.ClientAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)), grpc.WithUnaryInterceptor(patiently), grpc.WithStreamInterceptor(patientStream(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &services{
		t, t.Context(), time.Now(), conn, pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewClusterClient(conn), pb.NewMaintenanceClient(conn),
		pb.NewWatchClient(conn), lockpb.NewLockClient(conn), electionpb.NewElectionClient(conn),
	}
}

// patiently gives each call its own time: hundreds of them, with a slow disk under them, take longer than any one may.
func patiently(ctx context.Context, method string, ask, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, o ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, process.Patience)
	defer cancel()
	return call(ctx, method, ask, reply, conn, o...)
}

// patientStream does it for streams, which may last until the test ends.
func patientStream(t *testing.T) grpc.StreamClientInterceptor {
	return func(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, cancel := context.WithTimeout(ctx, process.Patience)
		t.Cleanup(cancel)
		return open(ctx, d, conn, method, o...)
	}
}

// show writes an answer, or the code and text of a refusal, in one line that is the same for equal answers.
func show(m proto.Message, err error) string {
	if err != nil {
		s, _ := status.FromError(err)
		return fmt.Sprintf("%s: %s", s.Code(), s.Message())
	}
	if r, ok := m.(*pb.LeaseTimeToLiveResponse); ok {
		slices.SortFunc(r.Keys, bytes.Compare) // etcd's come out of a map
	}
	b, err := protojson.Marshal(m)
	if err != nil {
		return err.Error()
	}
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil {
		return err.Error()
	}
	return line.String()
}

func b(s string) []byte { return []byte(s) }

func opPut(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: b(key), Value: b(value), PrevKv: true}}}
}

func opGet(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opDel(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: b(key), RangeEnd: b(end), PrevKv: true}}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func version(key, end string, result pb.Compare_CompareResult, v int64) *pb.Compare {
	return &pb.Compare{Key: b(key), RangeEnd: b(end), Result: result, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: v}}
}

// requests are sent in this order. What is wrong in them is wrong on purpose.
func requests() []proto.Message {
	all := []proto.Message{}
	for i := range 12 {
		all = append(all, &pb.PutRequest{Key: fmt.Appendf(nil, "k%02d", i%8), Value: fmt.Appendf(nil, "v%d", i), PrevKv: i > 5})
	}
	all = append(all, puts()...)
	all = append(all, ranges()...)
	all = append(all, deletes()...)
	all = append(all, txns()...)
	all = append(all, leases()...)
	return append(all, upkeep()...)
}

func puts() []proto.Message {
	return []proto.Message{
		&pb.PutRequest{}, &pb.PutRequest{Value: b("v")}, &pb.PutRequest{Key: b("a"), Value: b("v"), IgnoreValue: true}, &pb.PutRequest{Key: b("a"), IgnoreValue: true},
		&pb.PutRequest{Key: b("a"), Lease: 5, IgnoreLease: true}, &pb.PutRequest{Key: b("a"), IgnoreLease: true}, &pb.PutRequest{Key: b("a"), Lease: 404}, &pb.PutRequest{Key: b("a"), Lease: -1},
		&pb.PutRequest{Key: b("k00"), IgnoreValue: true, PrevKv: true}, &pb.PutRequest{Key: b("k00"), Value: b("w"), IgnoreLease: true, PrevKv: true}, &pb.PutRequest{Key: []byte{0}, Value: []byte{}},
		&pb.PutRequest{Key: b("large"), Value: make([]byte, 1572864)}, &pb.PutRequest{Key: b("huge"), Value: make([]byte, 3<<20)}, &pb.PutRequest{Key: bytes.Repeat(b("k"), 4096), Value: b("long key")},
	}
}

func ranges() []proto.Message {
	all := []proto.Message{
		&pb.RangeRequest{}, &pb.RangeRequest{Key: b("k00")}, &pb.RangeRequest{Key: b("missing")}, &pb.RangeRequest{RangeEnd: b("z")}, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true},
		&pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), Limit: 3}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), Limit: 8}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), Limit: -1}, &pb.RangeRequest{Key: b("l"), RangeEnd: b("k")}, &pb.RangeRequest{Key: b("k05"), RangeEnd: []byte{0}, KeysOnly: true, Limit: 2},
		&pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), Revision: 4}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), Revision: 1}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), Revision: -3, Limit: 1}, &pb.RangeRequest{Key: b("k"), Revision: 9999}, &pb.RangeRequest{Key: b("k00"), Serializable: true},
		&pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), MinModRevision: 8, MaxModRevision: 11}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), MinCreateRevision: 4, Limit: 2}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), MaxCreateRevision: 4, CountOnly: true}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), MinModRevision: 500},
		&pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), SortOrder: 7}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), SortTarget: 9}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), KeysOnly: true, CountOnly: true}, &pb.RangeRequest{Key: b("k00"), RangeEnd: b("k00")},
	}
	for _, order := range []pb.RangeRequest_SortOrder{pb.RangeRequest_NONE, pb.RangeRequest_ASCEND, pb.RangeRequest_DESCEND} {
		for target := range 5 {
			r := &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), SortOrder: order, SortTarget: pb.RangeRequest_SortTarget(target), Limit: int64(target % 3 * 2), KeysOnly: target == 4}
			all = append(all, r)
		}
	}
	return all
}

func deletes() []proto.Message {
	return []proto.Message{
		&pb.DeleteRangeRequest{}, &pb.DeleteRangeRequest{Key: b("missing")}, &pb.DeleteRangeRequest{Key: b("k07"), PrevKv: true}, &pb.DeleteRangeRequest{Key: b("k07"), PrevKv: true}, &pb.DeleteRangeRequest{Key: b("k05"), RangeEnd: b("k99"), PrevKv: true},
		&pb.DeleteRangeRequest{Key: b("large"), RangeEnd: []byte{0}}, &pb.DeleteRangeRequest{RangeEnd: []byte{0}}, &pb.DeleteRangeRequest{Key: b("z"), RangeEnd: b("a")}, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}},
	}
}

func txns() []proto.Message {
	yes, many := version("k00", "", pb.Compare_GREATER, 0), make([]*pb.RequestOp, 129)
	for i := range many {
		many[i] = opPut(fmt.Sprint("many", i), "v")
	}
	nested := &pb.TxnRequest{Success: []*pb.RequestOp{opTxn(&pb.TxnRequest{Compare: []*pb.Compare{version("n1", "", pb.Compare_EQUAL, 0)}, Success: []*pb.RequestOp{opPut("n1", "x"), opGet(&pb.RangeRequest{Key: b("n1")})}}), opPut("n2", "y")}}
	deep := &pb.TxnRequest{Success: []*pb.RequestOp{opPut("deep", "v")}}
	for range 5 {
		deep = &pb.TxnRequest{Success: []*pb.RequestOp{opTxn(deep)}}
	}
	all := []proto.Message{
		&pb.TxnRequest{}, &pb.TxnRequest{Compare: []*pb.Compare{yes}, Success: []*pb.RequestOp{opGet(&pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), Limit: 2}), opPut("k01", "t"), opGet(&pb.RangeRequest{Key: b("k01")}), opDel("k02", "")}, Failure: []*pb.RequestOp{opPut("no", "")}},
		&pb.TxnRequest{Compare: []*pb.Compare{version("k00", "", pb.Compare_LESS, 1)}, Success: []*pb.RequestOp{opPut("no", "")}, Failure: []*pb.RequestOp{opDel("k03", "k05"), opPut("k09", "n")}},
		nested, nested, deep, &pb.TxnRequest{Success: many}, &pb.TxnRequest{Success: many[:128]}, &pb.TxnRequest{Failure: many}, &pb.TxnRequest{Success: []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: many})}},
		&pb.TxnRequest{Success: []*pb.RequestOp{opPut("d", "1"), opPut("d", "2")}}, &pb.TxnRequest{Success: []*pb.RequestOp{opPut("d", "1"), opDel("a", "z")}}, &pb.TxnRequest{Success: []*pb.RequestOp{opDel("a", "z"), opDel("b", "c")}}, &pb.TxnRequest{Success: []*pb.RequestOp{opPut("d", "1"), opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{opPut("d", "1")}})}},
		&pb.TxnRequest{Success: []*pb.RequestOp{{}}}, &pb.TxnRequest{Success: []*pb.RequestOp{opPut("", "")}}, &pb.TxnRequest{Success: []*pb.RequestOp{opGet(&pb.RangeRequest{})}}, &pb.TxnRequest{Success: []*pb.RequestOp{opDel("", "")}}, &pb.TxnRequest{Compare: []*pb.Compare{{}}}, &pb.TxnRequest{Compare: []*pb.Compare{{Key: b("k00"), Target: 9}}},
		&pb.TxnRequest{Success: []*pb.RequestOp{opPut("partly", "1"), opGet(&pb.RangeRequest{Key: b("k"), Revision: 99999})}}, &pb.TxnRequest{Success: []*pb.RequestOp{opPut("partly", "1"), {Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: b("q"), Lease: 404}}}}}, &pb.TxnRequest{Success: []*pb.RequestOp{opGet(&pb.RangeRequest{Key: b("k"), Revision: 99999})}}, &pb.RangeRequest{Key: b("partly")},
		&pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: b("none"), IgnoreValue: true}}}}}, &pb.TxnRequest{Success: []*pb.RequestOp{opGet(&pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), SortOrder: 8})}},
	}
	for _, target := range []*pb.Compare{
		{Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 2}}, {Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: 10}}, {Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: b("w")}}, {Target: pb.Compare_LEASE, TargetUnion: &pb.Compare_Lease{}}, {Target: pb.Compare_VERSION}, {Target: pb.Compare_VALUE},
	} {
		for _, key := range []string{"k00", "missing", "k"} {
			for result := range 5 {
				c := proto.CloneOf(target)
				c.Key, c.Result = b(key), pb.Compare_CompareResult(result)
				if key == "k" {
					c.RangeEnd = b("l")
				}
				all = append(all, &pb.TxnRequest{Compare: []*pb.Compare{c}})
			}
		}
	}
	return all
}

func leases() []proto.Message {
	return []proto.Message{
		&pb.LeaseGrantRequest{ID: 77, TTL: 600}, &pb.LeaseGrantRequest{ID: 77, TTL: 5}, &pb.LeaseGrantRequest{ID: 81, TTL: 9000000001}, &pb.LeaseGrantRequest{ID: 82, TTL: 9000000000},
		&pb.LeaseGrantRequest{ID: -7, TTL: 600}, &pb.PutRequest{Key: b("leased/1"), Lease: 77}, &pb.PutRequest{Key: b("leased/2"), Lease: 77}, &pb.PutRequest{Key: b("leased/3"), Lease: -7}, &pb.PutRequest{Key: b("leased/1"), IgnoreLease: true, Value: b("x")}, &pb.LeaseTimeToLiveRequest{ID: 77, Keys: true}, &pb.LeaseTimeToLiveRequest{ID: 404, Keys: true}, &pb.LeaseTimeToLiveRequest{},
		&pb.LeaseKeepAliveRequest{ID: 77}, &pb.LeaseKeepAliveRequest{ID: 404}, &pb.LeaseKeepAliveRequest{}, &pb.LeaseRevokeRequest{ID: 77}, &pb.LeaseRevokeRequest{ID: 77}, &pb.LeaseRevokeRequest{}, &pb.RangeRequest{Key: b("leased/"), RangeEnd: b("leased0")}, &pb.LeaseLeasesRequest{}, &pb.LeaseRevokeRequest{ID: 82}, &pb.LeaseRevokeRequest{ID: -7}, &pb.LeaseLeasesRequest{},
		// These last a moment: nothing after them lists leases.
		&pb.LeaseGrantRequest{ID: 78}, &pb.LeaseGrantRequest{ID: 79, TTL: 1}, &pb.LeaseGrantRequest{ID: 80, TTL: -5},
		&pb.LeaseGrantRequest{TTL: 9000000001}, &pb.PutRequest{Key: b("k00"), Lease: 77},
	}
}

func upkeep() []proto.Message {
	return []proto.Message{
		&pb.HashKVRequest{}, &pb.HashKVRequest{Revision: 9}, &pb.HashKVRequest{Revision: 20}, &pb.HashKVRequest{Revision: 99999}, &pb.HashKVRequest{Revision: -1},
		&pb.CompactionRequest{Revision: 6}, &pb.CompactionRequest{Revision: 6}, &pb.CompactionRequest{Revision: 3}, &pb.CompactionRequest{Revision: 99999}, &pb.CompactionRequest{}, &pb.CompactionRequest{Revision: -1}, &pb.CompactionRequest{Revision: 20, Physical: true},
		&pb.HashKVRequest{}, &pb.HashKVRequest{Revision: 20}, &pb.HashKVRequest{Revision: 6}, &pb.HashKVRequest{Revision: 7}, &pb.HashKVRequest{Revision: 25}, &pb.RangeRequest{Key: b("k00"), Revision: 19}, &pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), Revision: 20},
		&pb.TxnRequest{Success: []*pb.RequestOp{opGet(&pb.RangeRequest{Key: b("k"), Revision: 2}), opPut("k00", "never")}}, &pb.TxnRequest{Success: []*pb.RequestOp{opGet(&pb.RangeRequest{Key: b("k"), Revision: 2})}}, &pb.MemberListRequest{}, &pb.MemberListRequest{Linearizable: true}, &pb.AlarmRequest{}, &pb.AlarmRequest{Alarm: pb.AlarmType_NOSPACE},
		&grpc_health_v1.HealthCheckRequest{}, &grpc_health_v1.HealthCheckRequest{Service: "nope"},
		&lockpb.LockRequest{Name: b("l"), Lease: 404}, &lockpb.UnlockRequest{Key: b("l/none")}, &lockpb.LockRequest{Name: b("l"), Lease: 79000}, &electionpb.LeaderRequest{Name: b("nobody")}, &electionpb.CampaignRequest{Name: b("e"), Lease: 404}, &electionpb.ProclaimRequest{}, &electionpb.ResignRequest{},
		&electionpb.ProclaimRequest{Leader: &electionpb.LeaderKey{Name: b("e"), Key: b("e/1"), Rev: 5, Lease: 1}}, &electionpb.ResignRequest{Leader: &electionpb.LeaderKey{Name: b("e"), Key: b("e/1"), Rev: 5, Lease: 1}},
		&pb.LeaseGrantRequest{ID: 90, TTL: 600}, &lockpb.LockRequest{Name: b("l"), Lease: 90}, &lockpb.LockRequest{Name: b("l"), Lease: 90}, &electionpb.CampaignRequest{Name: b("e"), Lease: 90, Value: b("me")}, &electionpb.LeaderRequest{Name: b("e")}, &lockpb.UnlockRequest{Key: b("l/5a")}, &pb.RangeRequest{Key: b("l/")}, &pb.LeaseRevokeRequest{ID: 90},
		&pb.MoveLeaderRequest{}, &pb.MoveLeaderRequest{TargetID: 5},
	}
}

// send makes the call that a request belongs to.
func (s *services) send(r proto.Message) (proto.Message, error) {
	switch r := r.(type) {
	case *pb.PutRequest:
		return s.Put(s.ctx, r)
	case *pb.RangeRequest:
		return s.Range(s.ctx, r)
	case *pb.DeleteRangeRequest:
		return s.DeleteRange(s.ctx, r)
	case *pb.TxnRequest:
		return s.Txn(s.ctx, r)
	case *pb.CompactionRequest:
		return s.Compact(s.ctx, r)
	case *pb.LeaseGrantRequest:
		return s.LeaseGrant(s.ctx, r)
	case *pb.LeaseRevokeRequest:
		return s.LeaseRevoke(s.ctx, r)
	case *pb.LeaseTimeToLiveRequest:
		return s.LeaseTimeToLive(s.ctx, r)
	case *pb.LeaseLeasesRequest:
		return s.LeaseLeases(s.ctx, r)
	case *pb.LeaseKeepAliveRequest:
		stream, err := s.LeaseKeepAlive(s.ctx)
		if err != nil {
			return nil, err
		}
		if err := stream.Send(r); err != nil {
			return nil, err
		}
		return stream.Recv()
	case *pb.HashKVRequest:
		return s.HashKV(s.ctx, r)
	case *pb.MemberListRequest:
		return s.MemberList(s.ctx, r)
	case *pb.AlarmRequest:
		return s.Alarm(s.ctx, r)
	case *pb.MoveLeaderRequest:
		return s.MoveLeader(s.ctx, r)
	case *grpc_health_v1.HealthCheckRequest:
		return grpc_health_v1.NewHealthClient(s.conn).Check(s.ctx, r)
	case *lockpb.LockRequest:
		return s.lock.Lock(s.ctx, r)
	case *lockpb.UnlockRequest:
		return s.lock.Unlock(s.ctx, r)
	case *electionpb.LeaderRequest:
		return s.election.Leader(s.ctx, r)
	case *electionpb.CampaignRequest:
		return s.election.Campaign(s.ctx, r)
	case *electionpb.ProclaimRequest:
		return s.election.Proclaim(s.ctx, r)
	case *electionpb.ResignRequest:
		return s.election.Resign(s.ctx, r)
	}
	return nil, status.Errorf(codes.Internal, "the test has no call for %T", r)
}

// Every call, right and wrong, is answered with the same message, or the same code and text, as by etcd 3.7.3.
func TestCalls(t *testing.T) {
	t.Parallel()
	got, want := twins(t, func(m *process.Member) []string { return callAll(reach(t, m), requests()) })
	agree(t, got, want)
}

var aged = regexp.MustCompile(`"TTL":"5\d\d"`)

// young gives the leases of 600 s in an answer back what they can have aged since s reached its server.
func (s *services) young(answer string) string {
	least := 599 - int64(time.Since(s.begun)/time.Second)
	return aged.ReplaceAllStringFunc(answer, func(ttl string) string {
		if n, err := strconv.ParseInt(strings.Trim(ttl, `"TL:`), 10, 64); err != nil || n < least {
			return ttl
		}
		return `"TTL":"600"`
	})
}

// callAll sends requests, and gives each with its answer.
func callAll(s *services, requests []proto.Message) (all []string) {
	for _, r := range requests {
		asked := fmt.Sprintf("%T %.200s", r, show(r, nil))
		all = append(all, asked+"\n  "+s.young(show(s.send(r))))
	}
	return all
}

// The hash of the whole file changes with what is written, and only then; a read does not wait for long.
func TestHash(t *testing.T) {
	t.Parallel()
	m := single(t, ours(t)).Serve()
	s := reach(t, m)
	hash := func() uint32 {
		t.Helper()
		r, err := s.Hash(s.ctx, &pb.HashRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Hash
	}
	start := time.Now()
	first, again := hash(), hash()
	if _, err := s.Put(s.ctx, &pb.PutRequest{Key: b("a")}); err != nil {
		t.Fatal(err)
	}
	if after := hash(); first != again || after == again {
		t.Errorf("hashes %08x, %08x, and %08x after a put", first, again, after)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("three hashes of an empty store took %v", took)
	}
	m.Stop()
}
