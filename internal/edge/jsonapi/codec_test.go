package jsonapi

import (
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"keelson/internal/kit/wire"
)

// bodies are requests as clients write them, and such as none should.
var bodies = []string{
	`{"key":"YQ==","value":"MQ=="}`, ` { "key" : "YQ==" , "value" : "MQ==" } ` + "\n", `{}`, `{ }`, `{"key":""}`, `{"value":"aGVsbG8gd29ybGQ="}`,
	`{"key":"YQ==","lease":"7","prev_kv":true,"ignore_value":false,"ignoreLease":true}`, `{"lease":-7}`, `{"lease":"9223372036854775807"}`, `{"lease":"9223372036854775808"}`,
	`{"lease":1.0}`, `{"lease":1e3}`, `{"lease":01}`, `{"lease":"01"}`, `{"lease":-0}`, `{"lease":"-"}`, `{"lease":""}`, `{"lease":0}`, `{"lease":null}`, `{"lease":" 1"}`, `{"lease":1-2}`,
	`{"key":"YQ"}`, `{"key":"_-=="}`, `{"key":"Y Q="}`, `{"key":"\u0059Q=="}`, `{"key":"YQ==","key":"Yg=="}`, `{"prev_kv":true,"prevKv":true}`, `{"key":"YQ==",}`, `{,}`, `{"key":"YQ=="`,
	`{"key" "YQ=="}`, `{"key":"YQ=="}x`, `[]`, `null`, ``, `"key"`, `{"other":1}`, `{"key":{"a":1}}`, `{"prev_kv":"true"}`, `{"prev_kv":truefalse}`, `{"prev_kv":True}`,
	`{"key":"YQ==","range_end":"YgA=","limit":"5","revision":3,"serializable":true,"keys_only":true,"countOnly":true}`, `{"rangeEnd":"AA==","limit":-1}`,
	`{"key":"YQ==","sort_order":"DESCEND"}`, `{"key":"YR=="}`, `{"key":"===="}`, `{"key":"YQ=a"}`, `{"key":"YQ==" "value":"MQ=="}`,
}

// agree holds the fast decoder to protobuf's: what it takes is right, whatever it is.
func agree[M proto.Message](t *testing.T, body []byte, decode func([]byte, M) bool, got, want M) bool {
	t.Helper()
	if !decode(body, got) {
		return false
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, want); err != nil {
		t.Fatalf("%q was taken for %v, and is refused: %v", body, got, err)
	}
	if !proto.Equal(got, want) {
		t.Fatalf("%q was taken for %v, and is %v", body, got, want)
	}
	return true
}

func agreeOnBoth(t *testing.T, body []byte) (put, ranged bool) {
	t.Helper()
	put = agree(t, body, decodePut, new(pb.PutRequest), new(pb.PutRequest))
	ranged = agree(t, body, decodeRange, new(pb.RangeRequest), new(pb.RangeRequest))
	return put, ranged
}

func TestDecode(t *testing.T) {
	puts, ranges := 0, 0
	for _, body := range bodies {
		put, ranged := agreeOnBoth(t, []byte(body))
		if put {
			puts++
		}
		if ranged {
			ranges++
		}
	}
	if puts < 9 || ranges < 6 {
		t.Errorf("the fast way took %d puts and %d ranges: it is for the usual ones", puts, ranges)
	}
}

func FuzzDecode(f *testing.F) {
	for _, body := range bodies {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) { agreeOnBoth(t, body) })
}

// drawn makes a key-value by chance; fields are often zero.
func drawn(r *rand.Rand) []byte {
	some := func(n int) []byte {
		b := make([]byte, r.IntN(n))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	return wire.AppendKeyValue(nil, wire.KeyValue{
		Key: some(9), Value: some(99), Create: r.Int64N(3), Mod: r.Int64(), Version: r.Int64N(2), Lease: r.Int64N(2) * r.Int64(),
	})
}

// What is written by hand is what the gateway makes of the same answer.
func TestEncode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var kvs [][]byte
		for range r.IntN(4) {
			kvs = append(kvs, drawn(r))
		}
		h := &wire.Header{ClusterID: r.Uint64(), MemberID: r.Uint64(), Revision: r.Int64N(2), Term: r.Uint64N(2)}
		if r.IntN(9) == 0 {
			h = nil
		}
		got := &wire.RangeResponse{Header: h, KVs: kvs, More: r.IntN(2) == 0, Count: r.Int64N(3)}
		text, err := appendRange(make([]byte, 0, sizeRange(got)), got)
		same(t, text, err, sizeRange(got), got.AppendTo(nil), &pb.RangeResponse{})
		put := &wire.PutResponse{Header: h}
		if r.IntN(2) == 0 {
			put.PrevKV = drawn(r)
		}
		text, err = appendPut(make([]byte, 0, sizePut(put)), put)
		same(t, text, err, sizePut(put), put.AppendTo(nil), &pb.PutResponse{})
	}
}

func same(t *testing.T, text []byte, err error, size int, encoded []byte, m proto.Message) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > size {
		t.Fatalf("%d bytes, and room for %d", len(text), size)
	}
	if err := proto.Unmarshal(encoded, m); err != nil {
		t.Fatal(err)
	}
	want, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != compact(t, string(want)) {
		t.Fatalf("%s\n%s", text, want)
	}
}

func TestBrokenAnswers(t *testing.T) {
	if _, err := appendRange(nil, &wire.RangeResponse{Header: &wire.Header{}, KVs: [][]byte{{0xff}}}); err == nil {
		t.Error("a broken key-value is written")
	}
	if _, err := appendPut([]byte{}, &wire.PutResponse{PrevKV: []byte{0xff}}); err == nil {
		t.Error("a broken key-value is written")
	}
}
