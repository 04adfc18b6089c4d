package compat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
	"keelson/test/process"
)

// rawCodec sends bytes as they are and keeps what comes.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = slices.Clone(data)
	return nil
}
func (rawCodec) Name() string { return "proto" }

// answer is all that one call brought back: a message or an error, and the metadata around it.
type answer struct {
	msg proto.Message
	err error
	md  []metadata.MD
}

func (a answer) String() string {
	if a.err != nil {
		s := status.Convert(a.err)
		return fmt.Sprintf("%s: %s %v %v", s.Code(), s.Message(), s.Details(), a.md)
	}
	text := prototext.Format(a.msg)
	if len(text) > shownAnswer {
		text = text[:shownAnswer] + "…"
	}
	return fmt.Sprintf("%T %s%v", a.msg, text, a.md)
}

// shownAnswer is how much of an answer a failure shows.
const shownAnswer = 2500

// side is one of the two members and what is open to it.
type side struct {
	m       *process.Member
	conn    *grpc.ClientConn
	ctx     context.Context
	cancel  context.CancelFunc
	streams []*watchStream
}

func (s *side) open() error {
	conn, err := grpc.NewClient(s.m.ClientAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return err
	}
	s.conn, s.streams = conn, nil
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return nil
}

func (s *side) close() {
	s.endStreams()
	s.cancel()
	_ = s.conn.Close() // what is still open on it is not looked at any more
}

// methodOf gives the method that takes a request, and an empty answer of it.
func methodOf(r proto.Message) (method string, reply proto.Message) {
	switch r.(type) {
	case *pb.RangeRequest:
		return pb.KV_Range_FullMethodName, new(pb.RangeResponse)
	case *pb.PutRequest:
		return pb.KV_Put_FullMethodName, new(pb.PutResponse)
	case *pb.DeleteRangeRequest:
		return pb.KV_DeleteRange_FullMethodName, new(pb.DeleteRangeResponse)
	case *pb.TxnRequest:
		return pb.KV_Txn_FullMethodName, new(pb.TxnResponse)
	case *pb.CompactionRequest:
		return pb.KV_Compact_FullMethodName, new(pb.CompactionResponse)
	case *pb.LeaseGrantRequest:
		return pb.Lease_LeaseGrant_FullMethodName, new(pb.LeaseGrantResponse)
	case *pb.LeaseRevokeRequest:
		return pb.Lease_LeaseRevoke_FullMethodName, new(pb.LeaseRevokeResponse)
	case *pb.LeaseTimeToLiveRequest:
		return pb.Lease_LeaseTimeToLive_FullMethodName, new(pb.LeaseTimeToLiveResponse)
	case *pb.LeaseLeasesRequest:
		return pb.Lease_LeaseLeases_FullMethodName, new(pb.LeaseLeasesResponse)
	case *pb.MemberListRequest:
		return pb.Cluster_MemberList_FullMethodName, new(pb.MemberListResponse)
	case *pb.AlarmRequest:
		return pb.Maintenance_Alarm_FullMethodName, new(pb.AlarmResponse)
	case *pb.StatusRequest:
		return pb.Maintenance_Status_FullMethodName, new(pb.StatusResponse)
	case *pb.HashRequest:
		return pb.Maintenance_Hash_FullMethodName, new(pb.HashResponse)
	case *pb.HashKVRequest:
		return pb.Maintenance_HashKV_FullMethodName, new(pb.HashKVResponse)
	case *pb.DefragmentRequest:
		return pb.Maintenance_Defragment_FullMethodName, new(pb.DefragmentResponse)
	case *pb.MoveLeaderRequest:
		return pb.Maintenance_MoveLeader_FullMethodName, new(pb.MoveLeaderResponse)
	case *pb.DowngradeRequest:
		return pb.Maintenance_Downgrade_FullMethodName, new(pb.DowngradeResponse)
	case *pb.MemberAddRequest:
		return pb.Cluster_MemberAdd_FullMethodName, new(pb.MemberAddResponse)
	case *pb.MemberRemoveRequest:
		return pb.Cluster_MemberRemove_FullMethodName, new(pb.MemberRemoveResponse)
	case *pb.MemberUpdateRequest:
		return pb.Cluster_MemberUpdate_FullMethodName, new(pb.MemberUpdateResponse)
	case *pb.MemberPromoteRequest:
		return pb.Cluster_MemberPromote_FullMethodName, new(pb.MemberPromoteResponse)
	case *lockpb.LockRequest:
		return lockpb.Lock_Lock_FullMethodName, new(lockpb.LockResponse)
	case *lockpb.UnlockRequest:
		return lockpb.Lock_Unlock_FullMethodName, new(lockpb.UnlockResponse)
	case *electionpb.CampaignRequest:
		return electionpb.Election_Campaign_FullMethodName, new(electionpb.CampaignResponse)
	case *electionpb.ProclaimRequest:
		return electionpb.Election_Proclaim_FullMethodName, new(electionpb.ProclaimResponse)
	case *electionpb.LeaderRequest:
		return electionpb.Election_Leader_FullMethodName, new(electionpb.LeaderResponse)
	case *electionpb.ResignRequest:
		return electionpb.Election_Resign_FullMethodName, new(electionpb.ResignResponse)
	}
	if method, reply := authMethodOf(r); method != "" {
		return method, reply
	}
	panic(fmt.Sprintf("no method takes %T", r))
}

// bytes sends a request that need not be a message at all.
func (s *side) bytes(ctx context.Context, method string, reply proto.Message, ask []byte) answer {
	ctx, cancel := context.WithTimeout(ctx, process.Patience)
	defer cancel()
	var got []byte
	var header, trailer metadata.MD
	err := s.conn.Invoke(ctx, method, &ask, &got, grpc.ForceCodec(rawCodec{}), grpc.Header(&header), grpc.Trailer(&trailer))
	if err == nil {
		err = proto.Unmarshal(got, reply)
	}
	return answer{reply, err, []metadata.MD{header, trailer}}
}

func (s *side) call(r proto.Message) answer { return s.callAs(s.ctx, r) }

func (s *side) callAs(ctx context.Context, r proto.Message) answer {
	method, reply := methodOf(r)
	ask, err := proto.Marshal(r)
	if err != nil {
		return answer{err: err}
	}
	return s.bytes(ctx, method, reply, ask)
}

// stream sends requests on a new stream and reads until its end, or until it has as many answers as asked for.
func (s *side) stream(method string, asks []proto.Message, reply func() proto.Message, most int) []answer {
	ctx, cancel := context.WithTimeout(s.ctx, process.Patience)
	defer cancel()
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return []answer{{err: err}}
	}
	var all []answer
	for _, r := range asks {
		if err := stream.SendMsg(r); err != nil && !errors.Is(err, io.EOF) { // the end's reason comes out of RecvMsg
			return []answer{{err: err}}
		}
	}
	if err := stream.CloseSend(); err != nil {
		return []answer{{err: err}}
	}
	for range most {
		m := reply()
		if err := stream.RecvMsg(m); err != nil {
			if !errors.Is(err, io.EOF) {
				all = append(all, answer{err: err})
			}
			return all
		}
		all = append(all, answer{msg: m})
	}
	return all
}

// pair is Keelson and etcd, asked the same things.
type pair struct {
	t    testing.TB
	ours *side
	real *side
	// where tells what is being done, for messages.
	where    string
	diverged bool
	found    int
	// slow is the longest that a step took of either: so much may the ends of it lie apart.
	slow time.Duration
	// deaf are the streams that etcd tells of no progress any more: see programs_test.go.
	deaf [streamsOpen]bool
	// asked are all steps so far, shortened.
	asked []string
}

func newPair(t testing.TB, flags ...string) *pair {
	t.Helper()
	p := &pair{t: t, ours: &side{m: single(t, ours(t), flags...)}, real: &side{m: single(t, stock(t, "etcd37"), flags...)}}
	p.serve()
	t.Cleanup(func() { p.ours.close(); p.real.close() })
	return p
}

// serve starts both processes and connects.
func (p *pair) serve() {
	p.t.Helper()
	defer p.timed(time.Now())
	p.ours.m.Start()
	p.real.m.Start()
	for _, s := range []*side{p.ours, p.real} {
		s.m.WaitHealthy()
		if err := s.open(); err != nil {
			p.t.Fatal(err)
		}
	}
	// etcd raises the version in its file some time after it began to serve.
	p.until("the file has its version", func(s *side) bool {
		r, ok := s.call(&pb.StatusRequest{}).msg.(*pb.StatusResponse)
		return ok && r.StorageVersion == "3.7.0"
	})
}

// restart ends both processes the same way and starts them again.
func (p *pair) restart(e end) {
	p.t.Helper()
	for _, s := range []*side{p.ours, p.real} {
		s.close()
		e.how(s.m)
	}
	p.serve()
}

func (p *pair) timed(begun time.Time) { p.slow = max(p.slow, time.Since(begun)) }

// both does the same on both sides at once, and compares what came of it. It gives etcd's answers.
func (p *pair) both(what string, do func(*side) []answer) []answer {
	p.t.Helper()
	if p.diverged {
		return nil
	}
	p.note(what)
	begun := time.Now()
	var got, want []answer
	var wait sync.WaitGroup
	wait.Go(func() { got = do(p.ours) })
	wait.Go(func() { want = do(p.real) })
	wait.Wait()
	p.timed(begun)
	p.compare(what, got, want)
	return want
}

func (p *pair) compare(what string, got, want []answer) {
	p.t.Helper()
	n := 0
	for n < min(len(got), len(want)) && p.same(got[n], want[n]) {
		n++
	}
	if n == len(got) && n == len(want) {
		return
	}
	p.found++
	p.diverged = p.diverged || !slices.Equal(revisions(got), revisions(want))
	at := func(all []answer) string {
		if n < len(all) {
			return all[n].String()
		}
		return "nothing more"
	}
	p.t.Errorf("%s: %.*s\nanswers %d and %d, apart from number %d on\nkeelson: %s\netcd:    %s",
		p.where, shownAnswer, what, len(got), len(want), n, at(got), at(want))
}

// ask sends one request to both.
func (p *pair) ask(r proto.Message) answer {
	p.t.Helper()
	return first(p.both(describe(r), func(s *side) []answer { return []answer{s.call(r)} }))
}

func first(all []answer) answer {
	if len(all) == 0 {
		return answer{err: status.Error(codes.Unknown, "nothing was asked")}
	}
	return all[0]
}

// zeros are most of a large value.
var zeros = regexp.MustCompile(`(\\(00\d|0\d\d|x0\d|x1\d)){8,}`)

func describe(r proto.Message) string {
	return zeros.ReplaceAllString(fmt.Sprintf("%T %s", r, prototext.MarshalOptions{}.Format(r)), "…")
}

func (p *pair) note(what string) {
	p.asked = append(p.asked, p.where+": "+what[:min(len(what), shownStep)])
}

// shownStep is how much of a step a failure's list of the newest ones shows; it shows shownSteps of them.
const shownStep, shownSteps = 300, 60

// tell lists the newest steps.
func (p *pair) tell() {
	p.t.Helper()
	p.t.Logf("what was asked last:\n%s", strings.Join(p.asked[max(0, len(p.asked)-shownSteps):], "\n"))
}

// until looks at a condition again and again on both sides.
func (p *pair) until(what string, check func(*side) bool) {
	p.t.Helper()
	if p.diverged {
		return
	}
	tick := time.NewTicker(settleInterval)
	defer tick.Stop()
	deadline := time.After(settlePatience)
	for {
		ours, theirs := check(p.ours), check(p.real)
		if ours && theirs {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.found++
			p.diverged = true
			p.t.Errorf("%s: waited %v until %s: keelson %v, etcd %v", p.where, settlePatience, what, ours, theirs)
			return
		}
	}
}

const (
	// settlePatience is how long the two may take to agree on what comes by itself: events, the end of a compaction.
	settlePatience = process.Patience
	settleInterval = 5 * time.Millisecond
)
