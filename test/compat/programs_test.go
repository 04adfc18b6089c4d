package compat

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
)

// Keelson means to differ here, and programs keep away from it:
//
//	what is asked                         etcd                                  Keelson                   why
//	a watch from a compacted revision     keeps the cancelled watcher until     forgets it                a watcher that never catches up silences
//	                                      the stream ends: no progress is                                 others' progress on the same stream
//	                                      told any more, its ID stays taken
//	Compact at 0, before any other        from then on answers HashKV at 0,     answers the hash of now   checks of corruption compare the answers to 0,
//	                                      which means now, with the hash of                               and would compare air
//	                                      nothing that it recorded for 0
//	RangeStream, a sort target but no     sorts each message by the target,     gives the keys in order   the order would depend on how the answer is cut,
//	order                                 and reads on behind its last row                                and rows can be missed
//
//	a transaction that puts a key and     takes it; with ignore_value or        refuses it as any         a request must not end a
//	deletes from a key on, the first      ignore_lease every member panics,     other that changes a key  member
//	key among the deleted                 and again at each start               twice
//
//	a range that ends before it begins,   permits or refuses it by the shape    asks for its first key     the order of grants is none of the caller's
//	asked for by a user                   of a tree, thus by the order of                                 business; it holds no key
//	                                      grants
//
// Not compared: the lease that Lock and Campaign grant by themselves and other IDs drawn at random, the value of Hash,
// sizes of files, raft's indexes, how events are spread over messages, the order of leases in a list.
var (
	seedFlag     = flag.Uint64("seed", 0, "replay the programs of one seed; 0 draws seeds")
	sessionsFlag = flag.Int("sessions", 4, "how many pairs of members TestPrograms and TestProgramsAcrossRestarts run, each with a seed of its own")
	programsFlag = flag.Int("programs", 5, "how many programs run on each pair, one after the other")
)

// operations is the length of a program.
const operations = 60

// family is a kind of operation. A program draws a weight for each.
type family struct {
	name string
	do   func(p *script)
}

func families() []family {
	return []family{
		{"put", func(p *script) { p.ask(p.put()) }},
		{"put", func(p *script) { p.ask(p.put()) }},
		{"range", func(p *script) { p.ask(p.readRange()) }},
		{"range", func(p *script) { p.ask(p.simpleRange()) }},
		{"stream", (*script).rangeStream},
		{"delete", func(p *script) { p.ask(p.remove()) }},
		{"txn", func(p *script) { p.ask(p.transaction()) }},
		{"compact", (*script).compact},
		{"lease", func(p *script) { p.ask(p.leaseCall()) }},
		{"keepalive", (*script).keepAlive},
		{"upkeep", func(p *script) { p.ask(p.upkeepCall()) }},
		{"watch", (*script).createWatch},
		{"unwatch", (*script).cancelWatch},
		{"settle", func(p *script) { p.pair.settle(p.rev) }},
		{"coordinate", (*script).coordinate},
		{"garbage", (*script).sendGarbage},
		{"metadata", (*script).withMetadata},
	}
}

// script is one program: a list of operations on a pair.
type script struct {
	*generator
	pair *pair
}

// ask sends a request and learns from etcd's answer.
func (p *script) ask(r proto.Message) answer {
	p.pair.t.Helper()
	a := p.pair.ask(r)
	p.learn(a)
	return a
}

func (p *script) learn(a answer) { p.rev = max(p.rev, revisionOf(a)) }

// run draws weights, then operations by them.
func (p *script) run() {
	all := families()
	var drawn []family
	for _, f := range all {
		for range p.r.IntN(4) * p.r.IntN(4) {
			drawn = append(drawn, f)
		}
	}
	drawn = append(drawn, all[:4]...)
	if p.large = 0; p.chance(8) {
		p.large = 900 << 10
	}
	p.pair.openStreams(p.chance(30))
	prefix := p.pair.where
	for i := range operations {
		f := pick(p.generator, drawn...)
		p.pair.where = fmt.Sprintf("%s, operation %d (%s)", prefix, i, f.name)
		f.do(p)
		if p.pair.diverged {
			return
		}
	}
	p.pair.where = prefix + ", at its end"
	p.pair.settle(p.rev)
	p.audit()
	p.pair.ours.endStreams()
	p.pair.real.endStreams()
}

// audit reads all there is.
func (p *script) audit() {
	p.pair.t.Helper()
	p.ask(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	p.ask(&pb.LeaseLeasesRequest{})
	for _, id := range []int64{1, 2, 3, 4, 5, 77, -3} {
		p.ask(&pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	}
	p.ask(&pb.HashKVRequest{})
	for rev := max(1, p.compacted); rev <= p.rev; rev += 1 + (p.rev-p.compacted)/6 {
		p.ask(&pb.HashKVRequest{Revision: rev})
		p.ask(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev})
	}
}

// wholeHistory watches all that compactions left.
func (p *script) wholeHistory() {
	p.pair.t.Helper()
	p.pair.openStreams(false)
	p.pair.watch(0, &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: max(1, p.compacted), PrevKv: true, Fragment: true})
	p.pair.settle(p.rev)
	p.pair.ours.endStreams()
	p.pair.real.endStreams()
}

// clear leaves no key and no lease to the next program.
func (p *script) clear() {
	p.ask(&pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	leases, _ := p.ask(&pb.LeaseLeasesRequest{}).msg.(*pb.LeaseLeasesResponse)
	for _, l := range leases.GetLeases() {
		p.ask(&pb.LeaseRevokeRequest{ID: l.ID})
	}
}

func (p *script) rangeStream() {
	r := p.readRange()
	if p.chance(60) {
		r.SortOrder, r.SortTarget, r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0, 0, 0
	}
	if r.SortOrder == pb.RangeRequest_NONE {
		r.SortTarget = pb.RangeRequest_KEY
	}
	got := first(p.pair.both("RangeStream "+describe(r), func(s *side) []answer {
		all := s.stream(pb.KV_RangeStream_FullMethodName, []proto.Message{r}, func() proto.Message { return new(pb.RangeStreamResponse) }, 1<<30)
		merged := &pb.RangeResponse{}
		for _, a := range all {
			if a.err != nil {
				return []answer{a}
			}
			if m, ok := a.msg.(*pb.RangeStreamResponse); ok {
				proto.Merge(merged, m.GetRangeResponse())
			}
		}
		return []answer{{msg: merged}}
	}))
	p.learn(got)
}

// compact settles first: a watcher that still reads what goes would be cancelled by one and not by the other. Then it
// waits until the old revisions are gone: until then etcd has no record of the hash.
func (p *script) compact() {
	p.pair.settle(p.rev)
	r := p.compaction()
	if r.Revision == 0 {
		r.Revision = 1
	}
	if p.ask(r).err != nil {
		return
	}
	p.compacted = r.Revision
	p.pair.until("the compaction has ended", func(s *side) bool {
		h, ok := s.call(&pb.HashKVRequest{Revision: r.Revision}).msg.(*pb.HashKVResponse)
		return ok && h.CompactRevision < r.Revision
	})
}

func (p *script) keepAlive() {
	var asks []proto.Message
	for range 1 + p.r.IntN(4) {
		asks = append(asks, &pb.LeaseKeepAliveRequest{ID: pick(p.generator, p.lease(), 0)})
	}
	p.pair.both(fmt.Sprintf("LeaseKeepAlive %v", asks), func(s *side) []answer {
		return s.stream(pb.Lease_LeaseKeepAlive_FullMethodName, asks, func() proto.Message { return new(pb.LeaseKeepAliveResponse) }, len(asks)+1)
	})
}

func (p *script) createWatch() {
	n := p.r.IntN(streamsOpen)
	r := p.watchRequest(n == futureStream)
	if p.pair.deaf[n] {
		r.StartRevision, r.WatchId = 0, 0
	}
	if r.StartRevision > 0 && r.StartRevision < p.compacted {
		p.pair.settle(p.rev) // while others on the stream can still be waited for
		p.pair.deaf[n], r.WatchId = true, 0
	}
	p.pair.watch(n, r)
}

func (p *script) cancelWatch() {
	p.pair.settle(p.rev)
	if p.pair.diverged {
		return
	}
	n, id := p.r.IntN(streamsOpen), pick[int64](p.generator, 0, 0, 1, 1, 2, 3, 7, 99, -1, -3)
	if p.pair.deaf[n] {
		id = 99
	}
	empty := p.chance(10)
	p.pair.note(fmt.Sprintf("cancel %d on stream %d", id, n))
	for _, s := range []*side{p.pair.ours, p.pair.real} {
		s.sendWatch(n, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
		if empty {
			s.sendWatch(n, &pb.WatchRequest{})
		}
	}
	p.pair.agreeOn(n)
}

func (p *script) sendGarbage() {
	r, bad := p.garbage()
	method, _ := methodOf(r)
	got := first(p.pair.both(fmt.Sprintf("%s with the bytes %x", method, bad), func(s *side) []answer {
		_, reply := methodOf(r)
		return []answer{s.bytes(s.ctx, method, reply, bad)}
	}))
	p.learn(got)
}

func (p *script) withMetadata() {
	key, value := pick(p.generator, "hasleader", "hasleader", "client-api-version", "token"), pick(p.generator, "true", "false", "3.5", "")
	r := pick[proto.Message](p.generator, p.put(), p.readRange(), &pb.LeaseLeasesRequest{}, &pb.MemberListRequest{})
	p.learn(first(p.pair.both(fmt.Sprintf("with %s=%q: %s", key, value, describe(r)), func(s *side) []answer {
		return []answer{s.callAs(metadata.AppendToOutgoingContext(s.ctx, key, value), r)}
	})))
}

// coordinate makes a call of a lock or an election. One that must wait for others is given up, or they go.
func (p *script) coordinate() {
	r := p.coordination()
	var name []byte
	var lease int64
	switch r := r.(type) {
	case *lockpb.LockRequest:
		name, lease = r.Name, r.Lease
	case *electionpb.CampaignRequest:
		name, lease = r.Name, r.Lease
	case *electionpb.LeaderRequest:
		p.ask(r)
		p.observe(r)
		return
	default:
		p.ask(r)
		return
	}
	ahead := p.ahead(name, lease)
	if len(ahead) == 0 {
		p.ask(r)
		return
	}
	p.waitBehind(r, ownedKey(name, lease), ahead)
}

// ahead are the keys that were there before that of a lease, oldest first.
func (p *script) ahead(name []byte, lease int64) []*mvccpb.KeyValue {
	prefix := append(append([]byte{}, name...), '/')
	end := append(append([]byte{}, name...), '/'+1)
	r, _ := p.ask(&pb.RangeRequest{Key: prefix, RangeEnd: end, SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND}).msg.(*pb.RangeResponse)
	own := string(ownedKey(name, lease))
	for i, kv := range r.GetKvs() {
		if string(kv.Key) == own {
			return r.Kvs[:i]
		}
	}
	return r.GetKvs()
}

// noLease is the ID of a lease that no program grants.
const noLease = 404

func (p *script) waitBehind(r proto.Message, own []byte, ahead []*mvccpb.KeyValue) {
	if p.pair.diverged {
		return
	}
	type call struct {
		cancel context.CancelFunc
		done   chan answer
		got    *answer
	}
	calls := map[*side]*call{}
	for _, s := range []*side{p.pair.ours, p.pair.real} {
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		c := &call{cancel: cancel, done: make(chan answer, 1)}
		calls[s] = c
		go func() { c.done <- s.callAs(ctx, r) }()
	}
	has := func(s *side, want int64) bool {
		x, ok := s.call(&pb.RangeRequest{Key: own, CountOnly: true}).msg.(*pb.RangeResponse)
		return ok && x.Count == want
	}
	ended := func(s *side) bool {
		c := calls[s]
		select {
		case a := <-c.done:
			c.got = &a
		default:
		}
		return c.got != nil
	}
	what := describe(r) + fmt.Sprintf(" behind %d", len(ahead))
	p.pair.until("a key waits: "+what, func(s *side) bool { return ended(s) || has(s, 1) })
	switch {
	case calls[p.pair.real].got != nil: // refused: its lease is not there
	case p.chance(50):
		what += ", given up"
		for s, c := range calls {
			// Who gives up in etcd between the putting of its key and the waiting for others leaves the key behind. One
			// more entry, which changes nothing, takes longer than that.
			s.call(&pb.LeaseRevokeRequest{ID: noLease})
			c.cancel()
		}
		p.pair.until("the key of one who gave up is gone: "+what, func(s *side) bool {
			if s == p.pair.real && has(s, 1) {
				// Where etcd was starved for that long nobody else removes it. Twice is as once: the revision is the same.
				s.call(&pb.DeleteRangeRequest{Key: own})
			}
			return has(s, 0)
		})
	default:
		for _, kv := range ahead {
			p.ask(&pb.DeleteRangeRequest{Key: kv.Key})
		}
	}
	p.pair.until("it ends: "+what, ended)
	if p.pair.diverged {
		return
	}
	p.pair.compare(what, []answer{*calls[p.pair.ours].got}, []answer{*calls[p.pair.real].got})
	p.ask(&pb.RangeRequest{Key: own})
}

// observe reads the first answer of an observer, if there is a leader.
func (p *script) observe(r *electionpb.LeaderRequest) {
	if len(p.ahead(r.Name, 0)) == 0 {
		return
	}
	p.pair.both("Observe "+describe(r), func(s *side) []answer {
		return s.stream(electionpb.Election_Observe_FullMethodName, []proto.Message{r}, func() proto.Message { return new(electionpb.LeaderResponse) }, 1)
	})
}

// session runs programs on one pair. between is called after each but the last.
func session(t *testing.T, seed uint64, between func(p *script, n int)) {
	t.Helper()
	start := time.Now()
	p := &script{&generator{r: rand.New(rand.NewPCG(seed, 0))}, newPair(t)}
	p.learn(p.ask(&pb.RangeRequest{Key: []byte("a")}))
	for n := range *programsFlag {
		p.pair.where = fmt.Sprintf("seed %d, program %d", seed, n)
		p.run()
		if p.pair.diverged {
			p.pair.tell()
			t.Errorf("%s: the two have parted; what was left of the session was not run", p.pair.where)
			return
		}
		if between != nil && n < *programsFlag-1 {
			between(p, n)
		}
		if p.chance(30) {
			p.clear()
		}
	}
	t.Logf("seed %d: %d programs, %d steps, %d differences, %v", seed, *programsFlag, len(p.pair.asked), p.pair.found, time.Since(start).Round(time.Millisecond))
}

// seeds gives a name and a seed a session.
func seeds(t *testing.T, run func(t *testing.T, seed uint64)) {
	t.Helper()
	n, seed := *sessionsFlag, *seedFlag
	if seed != 0 {
		n = 1
	}
	for range n {
		one := seed
		if one == 0 {
			one = rand.Uint64N(1 << 32)
		}
		t.Run(fmt.Sprint(one), func(t *testing.T) {
			t.Parallel()
			run(t, one)
		})
	}
}

// Programs drawn at random are answered the same by Keelson and by etcd 3.7.3, call by call and event by event.
// -seed replays the programs of one seed.
func TestPrograms(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) { session(t, seed, nil) })
}

// So they are when both are killed or stopped in between: what is replayed is what was answered.
func TestProgramsAcrossRestarts(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		session(t, seed, func(p *script, n int) {
			p.pair.where += ", after a restart"
			p.pair.restart(pick(p.generator, ends...))
			p.audit()
			p.wholeHistory()
		})
	})
}
