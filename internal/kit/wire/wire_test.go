package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const rounds = 3000

// filler makes random messages of any kind, down to a depth.
type filler struct{ *rand.Rand }

func newFiller(t testing.TB) (filler, uint64) {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return filler{rand.New(rand.NewPCG(seed, 0))}, seed
}

func (r filler) fill(m protoreflect.Message, depth int) {
	fds := m.Descriptor().Fields()
	for i := range fds.Len() {
		fd := fds.Get(i)
		if r.IntN(2) == 0 {
			continue
		}
		switch {
		case fd.IsList() && fd.Kind() == protoreflect.MessageKind:
			for range r.IntN(3) {
				if depth > 0 {
					r.fill(m.Mutable(fd).List().AppendMutable().Message(), depth-1)
				}
			}
		case fd.IsList():
			for range r.IntN(3) {
				m.Mutable(fd).List().Append(r.scalar(fd.Kind()))
			}
		case fd.Kind() == protoreflect.MessageKind:
			if depth > 0 {
				r.fill(m.Mutable(fd).Message(), depth-1)
			}
		default:
			m.Set(fd, r.scalar(fd.Kind()))
		}
	}
}

func (r filler) scalar(k protoreflect.Kind) protoreflect.Value {
	switch k {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(7) - 1))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.number()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(r.number()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.number()))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(r.number())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("né"[:r.IntN(2)])
	}
	return protoreflect.ValueOfBytes(r.blob())
}

func (r filler) number() uint64 { return r.Uint64() >> r.IntN(64) }

func (r filler) blob() []byte {
	b := make([]byte, r.IntN(4)*r.IntN(60))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func headerOf(h *pb.ResponseHeader) *Header {
	if h == nil {
		return nil
	}
	return &Header{ClusterID: h.ClusterId, MemberID: h.MemberId, Revision: h.Revision, Term: h.RaftTerm}
}

func kvsOf(t testing.TB, kvs []*mvccpb.KeyValue) (out [][]byte) {
	for _, kv := range kvs {
		out = append(out, kvOf(t, kv))
	}
	return out
}

func kvOf(t testing.TB, kv *mvccpb.KeyValue) []byte {
	if kv == nil {
		return nil
	}
	return append([]byte{}, marshal(t, kv)...)
}

func rangeOf(t testing.TB, r *pb.RangeResponse) *RangeResponse {
	return &RangeResponse{Header: headerOf(r.Header), KVs: kvsOf(t, r.Kvs), More: r.More, Count: r.Count}
}

func putOf(t testing.TB, r *pb.PutResponse) *PutResponse {
	return &PutResponse{Header: headerOf(r.Header), PrevKV: kvOf(t, r.PrevKv)}
}

func deleteOf(t testing.TB, r *pb.DeleteRangeResponse) *DeleteRangeResponse {
	return &DeleteRangeResponse{Header: headerOf(r.Header), Deleted: r.Deleted, PrevKVs: kvsOf(t, r.PrevKvs)}
}

func txnOf(t testing.TB, r *pb.TxnResponse) *TxnResponse {
	out := &TxnResponse{Header: headerOf(r.Header), Succeeded: r.Succeeded}
	for _, op := range r.Responses {
		var o ResponseOp
		switch u := op.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			o.Range = rangeOf(t, u.ResponseRange)
		case *pb.ResponseOp_ResponsePut:
			o.Put = putOf(t, u.ResponsePut)
		case *pb.ResponseOp_ResponseDeleteRange:
			o.DeleteRange = deleteOf(t, u.ResponseDeleteRange)
		case *pb.ResponseOp_ResponseTxn:
			o.Txn = txnOf(t, u.ResponseTxn)
		}
		out.Responses = append(out.Responses, o)
	}
	return out
}

func watchOf(t testing.TB, r *pb.WatchResponse) *WatchResponse {
	out := &WatchResponse{
		WatchID: r.WatchId, Created: r.Created, Canceled: r.Canceled,
		CompactRevision: r.CompactRevision, CancelReason: r.CancelReason, Fragment: r.Fragment,
	}
	if r.Header == nil {
		r.Header = &pb.ResponseHeader{}
	}
	out.Header = *headerOf(r.Header)
	for _, e := range r.Events {
		e.Type &= 1
		out.Events = append(out.Events, Event{Delete: e.Type == mvccpb.Event_DELETE, KV: kvOf(t, e.Kv), PrevKV: kvOf(t, e.PrevKv)})
	}
	return out
}

// answer is what every answer in this package can do.
type answer interface {
	Size() int
	AppendTo(dst []byte) []byte
}

func TestAnswersEqualProtobuf(t *testing.T) {
	r, _ := newFiller(t)
	kinds := map[string]func() (proto.Message, func() answer){
		"range": func() (proto.Message, func() answer) {
			m := new(pb.RangeResponse)
			return m, func() answer { return rangeOf(t, m) }
		},
		"rangeStream": func() (proto.Message, func() answer) {
			m := &pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{}}
			return m, func() answer { return &RangeStreamResponse{Range: *rangeOf(t, m.RangeResponse)} }
		},
		"put": func() (proto.Message, func() answer) {
			m := new(pb.PutResponse)
			return m, func() answer { return putOf(t, m) }
		},
		"delete": func() (proto.Message, func() answer) {
			m := new(pb.DeleteRangeResponse)
			return m, func() answer { return deleteOf(t, m) }
		},
		"txn": func() (proto.Message, func() answer) {
			m := new(pb.TxnResponse)
			return m, func() answer { return txnOf(t, m) }
		},
		"watch": func() (proto.Message, func() answer) {
			m := new(pb.WatchResponse)
			return m, func() answer { return watchOf(t, m) }
		},
		"keepalive": func() (proto.Message, func() answer) {
			m := &pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{}}
			return m, func() answer {
				return &LeaseKeepAliveResponse{Header: *headerOf(m.Header), ID: m.ID, TTL: m.TTL}
			}
		},
	}
	for name, kind := range kinds {
		for range rounds / 5 {
			m, convert := kind()
			r.fill(m.ProtoReflect(), 6)
			got := convert()
			want := marshal(t, m)
			if out := got.AppendTo(nil); !bytes.Equal(out, want) {
				t.Fatalf("%s: got %x, want %x of %v", name, out, want, m)
			}
			if got.Size() != len(want) {
				t.Fatalf("%s: size %d, want %d", name, got.Size(), len(want))
			}
		}
	}
}

func TestKeyValueEqualsProtobuf(t *testing.T) {
	r, _ := newFiller(t)
	for range rounds {
		m := new(mvccpb.KeyValue)
		r.fill(m.ProtoReflect(), 1)
		want := marshal(t, m)
		kv := KeyValue{Key: m.Key, Value: m.Value, Create: m.CreateRevision, Mod: m.ModRevision, Version: m.Version, Lease: m.Lease}
		if got := AppendKeyValue(nil, kv); !bytes.Equal(got, want) || SizeKeyValue(kv) != len(want) {
			t.Fatalf("got %x, want %x", got, want)
		}
	}
}

func FuzzParseKeyValue(f *testing.F) {
	f.Add(AppendKeyValue(nil, KeyValue{Key: []byte("k"), Value: []byte("v"), Create: 2, Mod: 3, Version: 2, Lease: -1}))
	f.Add([]byte{0x0a, 0x01})
	f.Add([]byte{0x3a, 0x01, 'x', 0x8a, 0x00, 0x01, 'k'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(mvccpb.KeyValue)
		want := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, m)
		kv, err := ParseKeyValue(b)
		if (want == nil) != (err == nil) {
			t.Fatalf("got error %v, protobuf %v", err, want)
		}
		if err == nil && !bytes.Equal(AppendKeyValue(nil, kv), marshal(t, m)) {
			t.Fatalf("got %+v, want %v", kv, m)
		}
	})
}

// request is a kind of request with its decoder here.
type request struct {
	fresh  func() proto.Message
	decode func(b []byte, m proto.Message) error
}

func requests() map[string]request {
	return map[string]request{
		"range": {func() proto.Message { return new(pb.RangeRequest) }, func(b []byte, m proto.Message) error {
			return DecodeRangeRequest(b, m.(*pb.RangeRequest))
		}},
		"put": {func() proto.Message { return new(pb.PutRequest) }, func(b []byte, m proto.Message) error {
			return DecodePutRequest(b, m.(*pb.PutRequest))
		}},
		"delete": {func() proto.Message { return new(pb.DeleteRangeRequest) }, func(b []byte, m proto.Message) error {
			return DecodeDeleteRangeRequest(b, m.(*pb.DeleteRangeRequest))
		}},
		"txn": {func() proto.Message { return new(pb.TxnRequest) }, func(b []byte, m proto.Message) error {
			return DecodeTxnRequest(b, m.(*pb.TxnRequest))
		}},
		"keepalive": {func() proto.Message { return new(pb.LeaseKeepAliveRequest) }, func(b []byte, m proto.Message) error {
			return DecodeLeaseKeepAliveRequest(b, m.(*pb.LeaseKeepAliveRequest))
		}},
		"internal": {func() proto.Message { return new(pb.InternalRaftRequest) }, func(b []byte, m proto.Message) error {
			return DecodeInternalRequest(b, m.(*pb.InternalRaftRequest))
		}},
	}
}

func checkDecode(t *testing.T, name string, k request, b []byte) {
	t.Helper()
	want, got := k.fresh(), k.fresh()
	wantErr := proto.Unmarshal(b, want)
	gotErr := k.decode(b, got)
	if (wantErr == nil) != (gotErr == nil) {
		t.Fatalf("%s: %x: got error %v, protobuf %v", name, b, gotErr, wantErr)
	}
	if wantErr == nil && !proto.Equal(got, want) {
		t.Fatalf("%s: %x: got %v, want %v", name, b, got, want)
	}
}

func TestRequestsEqualProtobuf(t *testing.T) {
	r, _ := newFiller(t)
	for name, k := range requests() {
		for range rounds / 5 {
			m := k.fresh()
			r.fill(m.ProtoReflect(), 6)
			b := marshal(t, m)
			checkDecode(t, name, k, b)
			if len(b) == 0 {
				continue
			}
			cut := r.IntN(len(b))
			checkDecode(t, name, k, b[:cut])
			broken := append([]byte{}, b...)
			broken[cut] ^= 1 << r.IntN(8)
			checkDecode(t, name, k, broken)
			checkDecode(t, name, k, append(broken, b...))
		}
	}
}

func TestDeepTransactionsAreLeftToProtobuf(t *testing.T) {
	m := &pb.TxnRequest{}
	for range 3 * txnDepthMax {
		m = &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: m}}}}
	}
	checkDecode(t, "txn", requests()["txn"], marshal(t, m))
}

func FuzzDecode(f *testing.F) {
	put := &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 7}
	op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
	cmp := &pb.Compare{Key: []byte("k"), RangeEnd: []byte("l"), TargetUnion: &pb.Compare_Lease{Lease: 7}}
	txn := &pb.TxnRequest{Compare: []*pb.Compare{cmp}, Success: []*pb.RequestOp{op, op}}
	f.Add(marshal(f, put))
	f.Add(marshal(f, txn))
	f.Add(marshal(f, &pb.RangeRequest{Key: []byte("k"), MaxCreateRevision: -1}))
	f.Add(marshal(f, &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 9, Username: "u"}, Txn: txn}))
	f.Add(append(marshal(f, op), marshal(f, op)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, k := range requests() {
			checkDecode(t, name, k, b)
		}
	})
}

func TestInternalRequestEqualsProtobuf(t *testing.T) {
	r, _ := newFiller(t)
	fast := 0
	for i := range 5 * rounds {
		m := &pb.InternalRaftRequest{ID: r.number() * uint64(r.IntN(2))}
		if r.IntN(4) > 0 {
			m.Header = new(pb.RequestHeader)
			r.fill(m.Header.ProtoReflect(), 1)
		}
		kinds := map[int]proto.Message{0: new(pb.PutRequest), 1: new(pb.DeleteRangeRequest), 2: new(pb.TxnRequest), 3: new(pb.LeaseRevokeRequest)}
		pick := kinds[i%5]
		if pick == nil {
			r.fill(m.ProtoReflect(), 4)
		} else {
			r.fill(pick.ProtoReflect(), 6)
			if r.IntN(20) == 0 {
				pick.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 77, 0), 1))
			}
		}
		switch k := pick.(type) {
		case *pb.PutRequest:
			m.Put = k
		case *pb.DeleteRangeRequest:
			m.DeleteRange = k
		case *pb.TxnRequest:
			m.Txn = k
		case *pb.LeaseRevokeRequest:
			m.LeaseRevoke = k
		}
		if _, ok := appendFast(nil, m); ok {
			fast++
		}
		got, err := AppendInternalRequest([]byte("pre"), m)
		if err != nil {
			t.Fatal(err)
		}
		if want := marshal(t, m); !bytes.Equal(got[3:], want) || string(got[:3]) != "pre" {
			t.Fatalf("got %x, want %x of %v", got, want, m)
		}
		back := new(pb.InternalRaftRequest)
		if err := DecodeInternalRequest(got[3:], back); err != nil || !proto.Equal(back, m) {
			t.Fatalf("decoded %v (%v), want %v", back, err, m)
		}
	}
	if fast < rounds {
		t.Fatalf("only %d of %d took the fast path", fast, 5*rounds)
	}
}

func TestInternalRequestRefusesBadNames(t *testing.T) {
	m := &pb.InternalRaftRequest{Header: &pb.RequestHeader{Username: "\xff"}, Put: &pb.PutRequest{Key: []byte("k")}}
	if _, err := AppendInternalRequest(nil, m); err == nil {
		t.Fatal("a user name that is not UTF-8 was encoded")
	}
}

func BenchmarkDecodePutRequest(b *testing.B) {
	data := marshal(b, &pb.PutRequest{Key: make([]byte, 16), Value: make([]byte, 256), Lease: 1})
	b.ReportAllocs()
	for b.Loop() {
		var m pb.PutRequest
		if err := DecodePutRequest(data, &m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendInternalPut(b *testing.B) {
	m := &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 1 << 60}, Put: &pb.PutRequest{Key: make([]byte, 16), Value: make([]byte, 256)}}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendInternalRequest(dst, m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendRangeResponse500(b *testing.B) {
	kv := AppendKeyValue(nil, KeyValue{Key: make([]byte, 16), Value: make([]byte, 256), Create: 1e6, Mod: 1e6, Version: 1})
	r := &RangeResponse{Header: &Header{ClusterID: 1, MemberID: 2, Revision: 3, Term: 4}, Count: 500}
	for range 500 {
		r.KVs = append(r.KVs, kv)
	}
	dst := make([]byte, 0, r.Size())
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Size()
		_ = r.AppendTo(dst)
	}
}
