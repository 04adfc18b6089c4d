package apply

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/clock"
	"keelson/internal/kit/wire"
	"keelson/internal/state/alarm"
	"keelson/internal/state/cluster"
	"keelson/internal/state/lease"
	"keelson/internal/state/mvcc"
	"keelson/internal/state/watch"
	"keelson/internal/storage/schema"
	"keelson/internal/storage/store"
)

// disk is a store in memory: what batches put into it, and the mvcc.History read from it.
type disk map[string][]byte // bucket/key

func (d disk) take(b *store.Batch) {
	if b == nil {
		return
	}
	for _, op := range b.Ops {
		k := op.Bucket.String() + "/" + string(op.Key)
		if op.Delete {
			delete(d, k)
		} else {
			d[k] = op.Value
		}
	}
}

func (d disk) dump() string {
	var lines []string
	for k, v := range d {
		bucket, key, _ := strings.Cut(k, "/")
		lines = append(lines, fmt.Sprintf("%s %s = %s", bucket, hex.EncodeToString([]byte(key)), hex.EncodeToString(v)))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func (d disk) Values(revs []schema.Revision) ([][]byte, error) {
	out := make([][]byte, len(revs))
	for i, r := range revs {
		out[i] = d["key/"+string(schema.RevisionKey(r, false))]
	}
	return out, nil
}

func (d disk) Scan(schema.Revision, schema.Revision, func(schema.Revision, bool, []byte) bool) error {
	return errors.New("not asked for in these tests")
}

// bench is an Applier over fresh state, and what it stored.
type bench struct {
	*Applier
	disk  disk
	index uint64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	d := disk{}
	hub := watch.New(watch.Options{Clock: clock.System, Logger: zap.NewNop()}, d)
	t.Cleanup(hub.Close)
	s := State{KV: mvcc.New(d, mvcc.Options{}), Leases: lease.New(2, lease.Observer{}), Cluster: cluster.New(cluster.State{}), Alarms: alarm.New(), Watch: hub}
	return &bench{Applier: New(s, Options{MaxLearners: 1}), disk: d}
}

func (b *bench) entry(t *testing.T, req *pb.InternalRaftRequest) *raftpb.Entry {
	t.Helper()
	b.index++
	if req.Header == nil {
		req.Header = &pb.RequestHeader{}
	}
	req.Header.ID = b.index
	data, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return &raftpb.Entry{Index: new(b.index), Term: new(uint64(1)), Data: data}
}

func wantAll(uint64) bool { return true }

// TestScripts runs testdata: one request a line, its answer and, after `state`, everything that is stored.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		b := newBench(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "state" {
				return b.disk.dump() + "\n"
			}
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				// Protobuf's text has one space or two, as it pleases.
				out.WriteString(strings.Join(strings.Fields(b.run(t, strings.TrimSpace(line))), " ") + "\n")
			}
			return out.String()
		})
	})
}

func (b *bench) run(t *testing.T, line string) string {
	if strings.HasPrefix(line, "conf ") {
		return b.runConf(t, strings.Fields(line)[1:])
	}
	req, err := parse(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	_, res, err := b.Apply(b.entry(t, req), wantAll)
	b.disk.take(b.Flush())
	switch {
	case err != nil:
		return "FATAL " + err.Error()
	case res.Err != nil:
		return "error " + res.Err.Error()
	}
	return show(res.Resp)
}

// runConf applies `conf add|learner|promote|remove|update ID [URL]`.
func (b *bench) runConf(t *testing.T, f []string) string {
	id, err := strconv.ParseUint(f[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	ctx := confContext(id, f)
	kinds := map[string]raftpb.ConfChangeType{
		"add": raftpb.ConfChangeAddNode, "promote": raftpb.ConfChangeAddNode, "learner": raftpb.ConfChangeAddLearnerNode,
		"remove": raftpb.ConfChangeRemoveNode, "update": raftpb.ConfChangeUpdateNode,
	}
	data, err := proto.Marshal(&raftpb.ConfChange{Id: &id, Type: kinds[f[0]].Enum(), NodeId: &id, Context: []byte(ctx)})
	if err != nil {
		t.Fatal(err)
	}
	b.index++
	e := &raftpb.Entry{Index: new(b.index), Term: new(uint64(1)), Type: raftpb.EntryConfChange.Enum(), Data: data}
	var handed uint64
	_, res, err := b.ApplyConf(e, func(cc *raftpb.ConfChange) *raftpb.ConfState {
		handed = cc.GetNodeId()
		return &raftpb.ConfState{Voters: []uint64{handed}}
	})
	b.disk.take(b.Flush())
	if err != nil {
		return "FATAL " + err.Error()
	}
	return fmt.Sprintf("raft was given %x; err %v; members %v", handed, res.Err, b.Cluster.State().Members)
}

// confContext gives a conf change's JSON as etcd writes it.
func confContext(id uint64, f []string) string {
	switch f[0] {
	case "remove":
		return ""
	case "promote":
		return fmt.Sprintf(`{"id":%d,"peerURLs":null,"isPromote":true}`, id)
	}
	return fmt.Sprintf(`{"id":%d,"peerURLs":[%q],"isLearner":%v}`, id, f[2], f[0] == "learner")
}

// parse reads one request: see testdata for the language.
func parse(line string) (*pb.InternalRaftRequest, error) {
	f := strings.Fields(line)
	num := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n }
	switch f[0] {
	case "put":
		return &pb.InternalRaftRequest{Put: parsePut(f)}, nil
	case "del":
		return &pb.InternalRaftRequest{DeleteRange: parseDel(f)}, nil
	case "grant":
		return &pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: num(1), TTL: num(2)}}, nil
	case "revoke":
		return &pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: num(1)}}, nil
	case "checkpoint":
		return &pb.InternalRaftRequest{LeaseCheckpoint: &pb.LeaseCheckpointRequest{Checkpoints: []*pb.LeaseCheckpoint{{ID: num(1), Remaining_TTL: num(2)}}}}, nil
	case "compact":
		return &pb.InternalRaftRequest{Compaction: &pb.CompactionRequest{Revision: num(1)}}, nil
	case "alarm":
		a := pb.AlarmRequest_AlarmAction(pb.AlarmRequest_AlarmAction_value[f[1]])
		return &pb.InternalRaftRequest{Alarm: &pb.AlarmRequest{Action: a, Alarm: pb.AlarmType(pb.AlarmType_value[f[2]]), MemberID: 1}}, nil
	case "version":
		return &pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: f[1]}}, nil
	case "downgrade":
		return &pb.InternalRaftRequest{DowngradeInfoSet: &membershippb.DowngradeInfoSetRequest{Enabled: f[1] != "off", Ver: f[1]}}, nil
	case "attributes":
		id, _ := strconv.ParseUint(f[1], 16, 64)
		return &pb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
			Member_ID: id, MemberAttributes: &membershippb.Attributes{Name: f[2], ClientUrls: f[3:]}}}, nil
	case "unknown":
		return &pb.InternalRaftRequest{}, nil
	case "as":
		return parseAs(line)
	case "proto":
		req := &pb.InternalRaftRequest{}
		return req, prototext.Unmarshal([]byte(strings.TrimPrefix(line, "proto ")), req)
	case "txn":
		return &pb.InternalRaftRequest{Txn: parseTxn(strings.TrimPrefix(line, "txn "))}, nil
	}
	return nil, fmt.Errorf("no such request")
}

// parseAs reads `as USER@REVISION REQUEST`: a request of somebody who was that user at that auth revision.
func parseAs(line string) (*pb.InternalRaftRequest, error) {
	f := strings.SplitN(line, " ", 3)
	user, rev, _ := strings.Cut(f[1], "@")
	n, err := strconv.ParseUint(rev, 10, 64)
	if err != nil {
		return nil, err
	}
	req, err := parse(f[2])
	if err == nil {
		req.Header = &pb.RequestHeader{Username: user, AuthRevision: n}
	}
	return req, err
}

func parsePut(f []string) *pb.PutRequest {
	r := &pb.PutRequest{Key: []byte(f[1]), Value: []byte(f[2])}
	for _, opt := range f[3:] {
		switch k, v, _ := strings.Cut(opt, "="); k {
		case "lease":
			r.Lease, _ = strconv.ParseInt(v, 10, 64)
		case "prev":
			r.PrevKv = true
		case "keepvalue":
			r.IgnoreValue, r.Value = true, nil
		case "keeplease":
			r.IgnoreLease = true
		}
	}
	return r
}

func parseDel(f []string) *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{Key: []byte(f[1]), PrevKv: true}
	if len(f) > 2 {
		r.RangeEnd = []byte(f[2])
	}
	return r
}

// parseTxn reads `if CMP & CMP then OP ; OP else OP`, where CMP is `target key op value` and OP is `put k v`, `get k`,
// `getrev k rev` or `del k [end]`, or `( … )`, a nested transaction without a branch of its own: `( put k v , get k )`.
func parseTxn(s string) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	cond, rest, _ := strings.Cut(strings.TrimPrefix(s, "if"), "then")
	for c := range strings.SplitSeq(cond, "&") {
		if f := strings.Fields(c); len(f) == 4 {
			r.Compare = append(r.Compare, parseCompare(f))
		}
	}
	then, other, _ := strings.Cut(rest, "else")
	r.Success, r.Failure = parseOps(then), parseOps(other)
	return r
}

func parseCompare(f []string) *pb.Compare {
	results := map[string]pb.Compare_CompareResult{"=": pb.Compare_EQUAL, "!=": pb.Compare_NOT_EQUAL, ">": pb.Compare_GREATER, "<": pb.Compare_LESS}
	c := &pb.Compare{Key: []byte(f[1]), Result: results[f[2]]}
	n, _ := strconv.ParseInt(f[3], 10, 64)
	switch f[0] {
	case "value":
		c.Target, c.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: []byte(f[3])}
	case "mod":
		c.Target, c.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: n}
	case "create":
		c.Target, c.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: n}
	case "version":
		c.Target, c.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: n}
	case "lease":
		c.Target, c.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: n}
	}
	return c
}

func parseOps(s string) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for o := range strings.SplitSeq(s, ";") {
		f := strings.Fields(o)
		if len(f) == 0 {
			continue
		}
		op := &pb.RequestOp{}
		switch f[0] {
		case "put":
			op.Request = &pb.RequestOp_RequestPut{RequestPut: parsePut(f)}
		case "del":
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: parseDel(f)}
		case "get":
			op.Request = &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(f[1])}}
		case "getrev":
			rev, _ := strconv.ParseInt(f[2], 10, 64)
			op.Request = &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(f[1]), Revision: rev}}
		case "(":
			inner := strings.ReplaceAll(strings.Join(f[1:len(f)-1], " "), ",", ";")
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: parseOps(inner)}}
		}
		ops = append(ops, op)
	}
	return ops
}

// show prints an answer the way a person reads it.
func show(resp any) string {
	switch r := resp.(type) {
	case nil:
		return "ok"
	case *wire.PutResponse:
		return fmt.Sprintf("rev %d%s", r.Header.Revision, showPrev(r.PrevKV))
	case *wire.DeleteRangeResponse:
		return fmt.Sprintf("rev %d deleted %d%s", r.Header.Revision, r.Deleted, showPrev(r.PrevKVs...))
	case *wire.TxnResponse:
		var parts []string
		for _, o := range r.Responses {
			parts = append(parts, showOp(o))
		}
		return fmt.Sprintf("rev %d succeeded %v [%s]", r.Header.Revision, r.Succeeded, strings.Join(parts, "; "))
	case proto.Message:
		return fmt.Sprint(r)
	}
	return fmt.Sprintf("%T", resp)
}

func showOp(o wire.ResponseOp) string {
	switch {
	case o.Put != nil:
		return "put " + show(o.Put)
	case o.DeleteRange != nil:
		return "del " + show(o.DeleteRange)
	case o.Txn != nil:
		return "txn " + show(o.Txn)
	}
	return fmt.Sprintf("get rev %d count %d%s", o.Range.Header.Revision, o.Range.Count, showPrev(o.Range.KVs...))
}

func showPrev(kvs ...[]byte) string {
	var b strings.Builder
	for _, e := range kvs {
		if e == nil {
			continue
		}
		kv, err := wire.ParseKeyValue(e)
		if err != nil {
			return " " + err.Error()
		}
		fmt.Fprintf(&b, " {%s=%s c%d m%d v%d l%d}", kv.Key, kv.Value, kv.Create, kv.Mod, kv.Version, kv.Lease)
	}
	return b.String()
}

// TestGroupingDoesNotMatter applies one random log three ways: entry by entry, in random runs, and on a member where
// nobody waits for answers. All must store the same bytes.
func TestGroupingDoesNotMatter(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 0))
		log := randomLog(r, 120)
		var dumps []string
		for way := range 3 {
			b := newBench(t)
			wanted := func(uint64) bool { return way != 2 }
			for i, req := range log {
				if _, _, err := b.Apply(b.entry(t, proto.Clone(req).(*pb.InternalRaftRequest)), wanted); err != nil {
					t.Fatalf("seed %d: entry %d: %v", seed, i, err)
				}
				if way == 0 || r.IntN(5) == 0 {
					b.disk.take(b.Flush())
				}
			}
			b.disk.take(b.Flush())
			dumps = append(dumps, b.disk.dump())
		}
		for way, d := range dumps {
			if d != dumps[0] {
				t.Fatalf("seed %d: way %d stored\n%s\nand entry by entry\n%s", seed, way, d, dumps[0])
			}
		}
	}
}

func randomLog(r *rand.Rand, n int) []*pb.InternalRaftRequest {
	var log []*pb.InternalRaftRequest
	key := func() string { return string(rune('a' + r.IntN(6))) }
	for i := range n {
		var line string
		switch r.IntN(8) {
		case 0, 1, 2:
			line = fmt.Sprintf("put %s v%d lease=%d", key(), i, r.IntN(3))
		case 3:
			line = fmt.Sprintf("del %s %s", key(), key())
		case 4:
			line = fmt.Sprintf("txn if version %s > %d then put %s t%d ; get %s ; del %s else put %s e%d", key(), r.IntN(3), key(), i, key(), key(), key(), i)
		case 5:
			line = fmt.Sprintf("grant %d 10", 1+r.IntN(3))
		case 6:
			line = fmt.Sprintf("revoke %d", 1+r.IntN(3))
		case 7:
			line = fmt.Sprintf("compact %d", r.IntN(i+1))
		}
		req, err := parse(line)
		if err != nil {
			panic(err)
		}
		log = append(log, req)
	}
	return log
}
