package compat

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/test/process"
)

// progressInterval is how often a case asks for progress until it is told that all was sent.
const progressInterval = 50 * time.Millisecond

func create(r *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

func cancel(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
}

// watchCase is the requests of one stream. Each is sent when the one before it was answered.
type watchCase struct {
	name string
	ask  []*pb.WatchRequest
	// silent are the places in ask of requests that are not answered.
	silent map[int]bool
	// later is how many more answers come by themselves.
	later int
	// untold is set where no progress can be told: a watcher waits for a revision to come, or (in etcd; Keelson tells) it was
	// cancelled for a compaction.
	untold bool
}

var noPut, noDelete = pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE

func watchCases() []watchCase {
	w := create
	return []watchCase{
		{name: "from the past", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), StartRevision: 8})}},
		{name: "prefix", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), RangeEnd: b("b"), StartRevision: 7, PrevKv: true})}},
		{name: "from key", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("b"), RangeEnd: []byte{0}, StartRevision: 6})}},
		{name: "all", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{RangeEnd: []byte{0}, StartRevision: 6, PrevKv: true})}},
		{name: "no puts", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), RangeEnd: b("z"), StartRevision: 6, Filters: []pb.WatchCreateRequest_FilterType{noPut}})}},
		{name: "no deletes", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), RangeEnd: b("z"), StartRevision: 6, Filters: []pb.WatchCreateRequest_FilterType{noDelete}})}},
		{name: "nothing", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), RangeEnd: b("z"), StartRevision: 6, Filters: []pb.WatchCreateRequest_FilterType{noDelete, noPut}})}},
		{name: "compacted", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), StartRevision: 2})}, later: 1, untold: true},
		{name: "compacted exactly", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), RangeEnd: b("z"), StartRevision: 5})}},
		{name: "the future", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), StartRevision: 1000})}, untold: true},
		{name: "now", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), ProgressNotify: true})}},
		{name: "negative start", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), StartRevision: -5})}},
		{name: "empty range", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("b"), RangeEnd: b("a")}), w(&pb.WatchCreateRequest{Key: b("a")})}},
		{name: "named", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a"), WatchId: 7}), w(&pb.WatchCreateRequest{Key: b("b"), WatchId: 7}), w(&pb.WatchCreateRequest{Key: b("c")}), w(&pb.WatchCreateRequest{Key: b("c"), WatchId: -3})}},
		{name: "canceled", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("a")}), cancel(0), cancel(0), w(&pb.WatchCreateRequest{Key: b("a"), WatchId: 3})}, silent: map[int]bool{2: true}},
		{name: "cancel of none", ask: []*pb.WatchRequest{cancel(99), w(&pb.WatchCreateRequest{Key: b("a")})}, silent: map[int]bool{0: true}},
		{name: "an empty request", ask: []*pb.WatchRequest{{}, w(&pb.WatchCreateRequest{Key: b("a")})}, silent: map[int]bool{0: true}},
		{name: "large, in fragments", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("large"), RangeEnd: b("largf"), StartRevision: 6, Fragment: true, PrevKv: true})}},
		{name: "large", ask: []*pb.WatchRequest{w(&pb.WatchCreateRequest{Key: b("large"), RangeEnd: b("largf"), StartRevision: 6, PrevKv: true})}},
	}
}

// history is what the cases look back on: it is compacted at 5 and ends with a few large values.
func history(s *services) {
	s.t.Helper()
	must := func(_ proto.Message, err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	for i := range 4 {
		must(s.Put(s.ctx, &pb.PutRequest{Key: b("a"), Value: fmt.Appendf(nil, "%d", i)}))
	}
	must(s.Compact(s.ctx, &pb.CompactionRequest{Revision: 5, Physical: true}))
	must(s.Put(s.ctx, &pb.PutRequest{Key: b("a1"), Value: b("x")}))
	must(s.Put(s.ctx, &pb.PutRequest{Key: b("a"), Value: b("y")}))
	must(s.DeleteRange(s.ctx, &pb.DeleteRangeRequest{Key: b("a"), RangeEnd: b("b")}))
	must(s.Txn(s.ctx, &pb.TxnRequest{Success: []*pb.RequestOp{opPut("a", "again"), opPut("b", "too"), opDel("none", ""), opPut("c", "three")}}))
	must(s.Put(s.ctx, &pb.PutRequest{Key: b("a"), Value: b("last")}))
	for i := range 6 {
		must(s.Put(s.ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "large%d", i%2), Value: make([]byte, 700<<10)}))
	}
}

// run sends a case's requests and gives what was answered: first the answers to the requests, then the events, in the
// order they came. How events are spread over messages, and so the revision that each message was made at, is not
// compared, but no fragment may be as large as a client refuses, and fragments must end.
func (c watchCase) run(s *services) []string {
	s.t.Helper()
	stream, err := s.watch.Watch(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	var controls, events []string
	inFragment := false
	receive := func() *pb.WatchResponse {
		r, err := stream.Recv()
		if err != nil {
			s.t.Fatalf("%s: %v", c.name, err)
		}
		if size := proto.Size(r); r.Fragment && size > 4<<20 {
			s.t.Errorf("%s: a fragment of %d bytes", c.name, size)
		}
		inFragment = r.Fragment
		for _, e := range r.Events {
			events = append(events, fmt.Sprintf("watch %d: %v %s=%.20q mod %d version %d, before: %.20q mod %d",
				r.WatchId, e.Type, e.Kv.Key, e.Kv.Value, e.Kv.ModRevision, e.Kv.Version, e.GetPrevKv().GetValue(), e.GetPrevKv().GetModRevision()))
		}
		return r
	}
	// A watcher that sees nothing stays to the end: a stream without any is told of no progress.
	idle := create(&pb.WatchCreateRequest{Key: b("zzz"), WatchId: 1000})
	for i, ask := range append([]*pb.WatchRequest{idle}, c.ask...) {
		if err := stream.Send(ask); err != nil {
			s.t.Fatal(err)
		}
		for answered := c.silent[i-1]; !answered; {
			if r := receive(); r.Created || r.Canceled {
				controls, answered = append(controls, show(r, nil)), true
			}
		}
	}
	for len(controls) < len(c.ask)+1-len(c.silent)+c.later {
		if r := receive(); r.Created || r.Canceled {
			controls = append(controls, show(r, nil))
		}
	}
	if c.untold {
		return controls
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}) == nil {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	for {
		r := receive()
		switch {
		case r.Created || r.Canceled:
			controls = append(controls, show(r, nil))
		case len(r.Events) == 0:
			if inFragment {
				s.t.Errorf("%s: progress inside a fragmented answer", c.name)
			}
			return append(append(controls, events...), "progress: "+show(r, nil))
		}
	}
}

// Watches that look back, are refused, cancelled, filtered or cut into fragments are answered as by etcd 3.7.3.
func TestWatches(t *testing.T) {
	t.Parallel()
	got, want := twins(t, func(m *process.Member) []string { return watchAll(reach(t, m)) })
	agree(t, got, want)
}

// watchAll gives the answers to all cases.
func watchAll(s *services) (all []string) {
	history(s)
	for _, c := range watchCases() {
		for _, line := range c.run(s) {
			all = append(all, c.name+": "+line)
		}
	}
	return all
}
