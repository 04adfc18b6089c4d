package compat

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/electionpb"
	"keelson/internal/kit/lockpb"
)

// generator draws requests. What it draws depends on its seed and on etcd's answers alone.
type generator struct {
	r *rand.Rand
	// rev and compacted are etcd's by its newest answers.
	rev, compacted int64
	// large is how many bytes the values of a program may have.
	large int
}

func (g *generator) chance(percent int) bool { return g.r.IntN(100) < percent }

func pick[T any](g *generator, of ...T) T { return of[g.r.IntN(len(of))] }

func (g *generator) key() []byte {
	switch n := g.r.IntN(100); {
	case n < 60:
		return fmt.Appendf(nil, "k%d", g.r.IntN(12))
	case n < 75:
		return fmt.Appendf(nil, "k%d/%d", g.r.IntN(4), g.r.IntN(3))
	case n < 97:
		return pick(g, []byte("a"), []byte("b"), []byte("k"), []byte("z"), []byte("k1\x00"), []byte{0}, []byte{0, 0}, []byte{0xff}, []byte{0xff, 0xff}, []byte("k\xff"))
	case n < 98:
		return bytes.Repeat([]byte("long"), 300)
	}
	return nil
}

func (g *generator) end(key []byte) []byte {
	switch n := g.r.IntN(100); {
	case n < 30:
		return nil
	case n < 40:
		return []byte{0}
	case n < 60:
		end := bytes.Clone(key)
		for i := len(end) - 1; i >= 0; i-- {
			if end[i]++; end[i] != 0 {
				return end[:i+1]
			}
		}
		return []byte{0}
	case n < 65:
		return key
	case n < 70:
		return append(bytes.Clone(key), 0)
	case n < 80:
		return pick(g, []byte("l"), []byte("k5"), []byte{0xff, 0xff, 0xff})
	}
	return g.key()
}

func (g *generator) value() []byte {
	switch n := g.r.IntN(100); {
	case n < 8:
		return nil
	case n < 30 && g.large > 0:
		return bytes.Repeat([]byte{byte(n)}, g.r.IntN(g.large))
	case n == 99 && g.chance(30):
		return make([]byte, 1572864-g.r.IntN(200))
	}
	return fmt.Appendf(nil, "v%d", g.r.IntN(30))
}

// revision is one to read at, mostly one that can be.
func (g *generator) revision() int64 {
	switch n := g.r.IntN(100); {
	case n < 50:
		return 0
	case n < 80:
		return g.compacted + g.r.Int64N(g.rev-g.compacted+1)
	case n < 95:
		return pick(g, g.rev, g.rev+1, g.compacted, g.compacted+1, g.compacted-1, 1, 2)
	}
	return pick(g, -1, g.rev+1000, math.MaxInt64, math.MinInt64)
}

func (g *generator) bound() int64 {
	if g.chance(75) {
		return 0
	}
	return pick(g, g.rev-g.r.Int64N(20), g.rev, g.rev+1, g.compacted, 1, -1, math.MaxInt64)
}

func (g *generator) lease() int64 { return pick[int64](g, 1, 2, 3, 4, 5, 77, -3, math.MaxInt64) }

func (g *generator) limit() int64 {
	return pick[int64](g, 0, 0, 0, 1, 2, 3, 7, 1000, -1, math.MaxInt64)
}

func (g *generator) readRange() *pb.RangeRequest {
	key := g.key()
	r := &pb.RangeRequest{Key: key, RangeEnd: g.end(key), Limit: g.limit(), Revision: g.revision(), Serializable: g.chance(20), KeysOnly: g.chance(15), CountOnly: g.chance(10),
		MinModRevision: g.bound(), MaxModRevision: g.bound(), MinCreateRevision: g.bound(), MaxCreateRevision: g.bound()}
	if g.chance(50) {
		r.SortOrder, r.SortTarget = pb.RangeRequest_SortOrder(g.r.IntN(3)), pb.RangeRequest_SortTarget(g.r.IntN(5))
	}
	if g.chance(3) {
		r.SortOrder = pick[pb.RangeRequest_SortOrder](g, 3, -1, 100)
	}
	if g.chance(3) {
		r.SortTarget = pick[pb.RangeRequest_SortTarget](g, 5, -1, 100)
	}
	return r
}

// simpleRange leaves the bounds out, so that most of them find something.
func (g *generator) simpleRange() *pb.RangeRequest {
	r := g.readRange()
	r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	return r
}

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(30)}
	if g.chance(25) {
		r.Lease = g.lease()
	}
	switch g.r.IntN(20) {
	case 0:
		r.IgnoreLease = true
	case 1:
		r.IgnoreValue = true
	case 2:
		r.IgnoreLease, r.Lease = true, 0
	case 3:
		r.IgnoreValue, r.Value = true, nil
	case 4:
		r.IgnoreValue, r.Value, r.IgnoreLease, r.Lease = true, nil, true, 0
	}
	return r
}

func (g *generator) remove() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.chance(40)}
	if g.chance(40) {
		r.RangeEnd = g.end(r.Key)
	}
	return r
}

func (g *generator) compareKey() *pb.Compare {
	c := &pb.Compare{Key: g.key(), Result: pb.Compare_CompareResult(g.r.IntN(4)), Target: pb.Compare_CompareTarget(g.r.IntN(5))}
	if g.chance(30) {
		c.RangeEnd = g.end(c.Key)
	}
	near := pick(g, 0, 1, g.rev, g.rev-g.r.Int64N(20))
	union := c.Target
	if g.chance(4) {
		union = pb.Compare_CompareTarget(g.r.IntN(6))
	}
	switch union {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: pick[int64](g, 0, 1, 2, 3)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: near}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: near}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: pick(g, 0, g.lease())}
	}
	if g.chance(3) {
		c.Result = pick[pb.Compare_CompareResult](g, 4, -1, 99)
	}
	if g.chance(3) {
		c.Target = pick[pb.Compare_CompareTarget](g, 5, -1, 99)
	}
	return c
}

// operation is one of a transaction. Writes get keys of their own mostly, since two of one key are refused.
func (g *generator) operation(depth int, reads bool, n *int) *pb.RequestOp {
	*n++
	switch k := g.r.IntN(100); {
	case k < 40 || reads && k < 85:
		r := g.simpleRange()
		if g.chance(85) {
			r.Revision = 0
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
	case k >= 85 && depth > 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.transactionOf(depth-1, reads, n)}}
	case reads || k == 84:
		return &pb.RequestOp{}
	case k < 70:
		r := g.put()
		if g.chance(90) {
			r.Key = fmt.Appendf(nil, "k%d", *n)
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
	}
	r := g.remove()
	if g.chance(90) {
		r.Key, r.RangeEnd = fmt.Appendf(nil, "k%d", *n), nil
	}
	if bytes.Equal(r.RangeEnd, []byte{0}) {
		r.RangeEnd = nil
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func (g *generator) transactionOf(depth int, reads bool, n *int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range g.r.IntN(3) {
		r.Compare = append(r.Compare, g.compareKey())
	}
	for range g.r.IntN(5) {
		r.Success = append(r.Success, g.operation(depth, reads, n))
	}
	for range g.r.IntN(4) {
		r.Failure = append(r.Failure, g.operation(depth, reads, n))
	}
	return r
}

func (g *generator) transaction() *pb.TxnRequest {
	var n int
	r := g.transactionOf(3, g.chance(25), &n)
	if g.chance(2) {
		for range pick(g, 124, 128, 129, 200) {
			n++
			r.Success = append(r.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: fmt.Appendf(nil, "many%d", n)}}})
		}
	}
	return r
}

func (g *generator) leaseCall() proto.Message {
	switch n := g.r.IntN(100); {
	case n < 35:
		return &pb.LeaseGrantRequest{ID: g.lease(), TTL: pick[int64](g, 600, 700, 5000, 100000, 9000000000, 9000000001, math.MaxInt64)}
	case n < 60:
		return &pb.LeaseTimeToLiveRequest{ID: pick(g, g.lease(), 0), Keys: g.chance(70)}
	case n < 75:
		return &pb.LeaseRevokeRequest{ID: pick(g, g.lease(), g.lease(), g.lease(), 0)}
	}
	return &pb.LeaseLeasesRequest{}
}

func (g *generator) compaction() *pb.CompactionRequest {
	r := &pb.CompactionRequest{Revision: g.compacted + g.r.Int64N(g.rev-g.compacted+1), Physical: g.chance(60)}
	if g.chance(20) {
		r.Revision = pick(g, 0, -1, g.rev, g.rev+1, g.compacted, g.compacted-1, math.MaxInt64, math.MinInt64)
	}
	return r
}

func (g *generator) upkeepCall() proto.Message {
	switch n := g.r.IntN(100); {
	case n < 60:
		return &pb.HashKVRequest{Revision: g.revision()}
	case n < 70:
		return &pb.HashRequest{}
	case n < 80:
		return &pb.MemberListRequest{Linearizable: g.chance(50)}
	case n < 90:
		return &pb.StatusRequest{}
	}
	return &pb.AlarmRequest{Action: pb.AlarmRequest_GET, Alarm: pick(g, pb.AlarmType_NONE, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)}
}

func (g *generator) watchRequest(future bool) *pb.WatchCreateRequest {
	key := g.key()
	r := &pb.WatchCreateRequest{Key: key, RangeEnd: g.end(key), PrevKv: g.chance(50), Fragment: g.chance(30), ProgressNotify: g.chance(20)}
	switch {
	case g.chance(30):
	case future:
		r.StartRevision = g.rev + 1 + g.r.Int64N(12)
	default:
		r.StartRevision = min(g.rev, max(1, g.compacted-2+g.r.Int64N(g.rev-g.compacted+3)))
	}
	if g.chance(3) {
		r.StartRevision = -5
	}
	if g.chance(20) {
		r.WatchId = pick[int64](g, 0, 1, 2, 3, 7, 8, -3, -1, math.MaxInt64)
	}
	for range g.r.IntN(6) / 4 {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(g.r.IntN(2)))
	}
	if g.chance(2) {
		r.Filters = append(r.Filters, 9)
	}
	return r
}

// name is one of a lock or an election.
func (g *generator) name() []byte {
	return pick(g, []byte("lock"), []byte("lock"), []byte("l/a"), []byte("k1"), nil)
}

// ownedKey is what a lock's or an election's key of a lease is called.
func ownedKey(name []byte, lease int64) []byte { return fmt.Appendf(nil, "%s/%x", name, lease) }

func (g *generator) leaderKey() *electionpb.LeaderKey {
	if g.chance(5) {
		return nil
	}
	k := &electionpb.LeaderKey{Name: g.name(), Lease: g.lease(), Rev: g.rev - g.r.Int64N(min(g.rev, 10))}
	k.Key = ownedKey(k.Name, k.Lease)
	return k
}

func (g *generator) coordination() proto.Message {
	lease := g.lease()
	switch n := g.r.IntN(100); {
	case n < 25:
		return &lockpb.LockRequest{Name: g.name(), Lease: lease}
	case n < 45:
		return &lockpb.UnlockRequest{Key: ownedKey(g.name(), lease)}
	case n < 48:
		return &lockpb.UnlockRequest{}
	case n < 70:
		return &electionpb.CampaignRequest{Name: g.name(), Lease: lease, Value: g.value()}
	case n < 80:
		return &electionpb.LeaderRequest{Name: g.name()}
	case n < 90:
		return &electionpb.ProclaimRequest{Leader: g.leaderKey(), Value: g.value()}
	}
	return &electionpb.ResignRequest{Leader: g.leaderKey()}
}

// garbage is a request with a few bytes of it changed, cut off or added.
func (g *generator) garbage() (proto.Message, []byte) {
	r := pick[proto.Message](g, g.readRange(), g.put(), g.remove(), g.transaction())
	b, err := proto.Marshal(r)
	if err != nil {
		return r, nil
	}
	switch g.r.IntN(4) {
	case 0:
		b = b[:g.r.IntN(len(b)+1)]
	case 1:
		b = append(b, byte(g.r.IntN(256)), byte(g.r.IntN(256)))
	case 2:
		b = append(b, 0xfa, 0x3f, 2, 'x', 'y') // field 1023, which no request has
	default:
		for range 1 + g.r.IntN(3) {
			if len(b) > 0 {
				b[g.r.IntN(len(b))] ^= byte(1 << g.r.IntN(8))
			}
		}
	}
	return r, b
}
