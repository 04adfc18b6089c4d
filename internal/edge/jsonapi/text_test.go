package jsonapi

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const asText = "application/json; strings=utf8"

func TestText(t *testing.T) {
	f := serve(t)
	in := []string{"Content-Type", asText}
	both := []string{"Content-Type", asText, "Accept", asText}
	f.send(http.MethodPost, "/v3/kv/put", `{"key":"greeting","value":"hello \"world\"\n"}`, in...).want(t, 200, `"revision":"2"`)
	f.send(http.MethodPost, "/v3/kv/put", `{"key":"binary","value":{"base64":"/w=="}}`, in...).want(t, 200, `"revision":"3"`)
	f.post("/v3/kv/range", `{"key":"`+b64("greeting")+`"}`).want(t, 200, `"value":"`+b64("hello \"world\"\n")+`"`)
	f.send(http.MethodPost, "/v3/kv/range", `{"key":"`+b64("greeting")+`"}`, "Accept", asText).want(t, 200, `"key":"greeting","create_revision":"2","mod_revision":"2","version":"1","value":"hello \"world\"\n"}`)
	f.send(http.MethodPost, "/v3/kv/range", `{"key":"binary"}`, both...).want(t, 200, `"value":{"base64":"/w=="}}`)
	f.send(http.MethodPost, "/v3/kv/range", `{"key":"greeting"}`, in...).want(t, 200, `"value":"`+b64("hello \"world\"\n")+`"`)
	f.send(http.MethodPost, "/v3/kv/range", "{\"key\":\"\xff\"}", in...).want(t, 400, `UTF-8`)
	f.send(http.MethodPost, "/v3/kv/range", `{"key":"\ud800"}`, in...).want(t, 400, `surrogate`)
	f.send(http.MethodPost, "/v3/kv/range", `{"key":{"text":"a"}}`, in...).want(t, 400, `neither a string`)
	f.send(http.MethodPost, "/v3/kv/range", `{"key":{}}`, in...).want(t, 400, `neither a string`)
	f.send(http.MethodPost, "/v3/lock/lock", `{"name":"l"}`, both...).want(t, 200, `"key":"l/`)
	f.send(http.MethodPost, "/v3/kv/rangestream", `{"key":"greeting"}`, both...).want(t, 200, `{"result":{"range_response":{`)
	f.send(http.MethodPost, "/v3/kv/rangestream", `{"key":""}`, both...).want(t, 400, `"error":{"code":3`)
	f.send(http.MethodPost, "/v3/nothing", `{"key":""}`, both...).want(t, 404, `{"code":5`)
}

func TestAsksForText(t *testing.T) {
	for header, want := range map[string]bool{
		asText: true, "application/json;strings=UTF8": true, `text/html, application/json; q=1; strings="utf8"`: true, "application/json": false, "": false,
		"application/json; strings=utf16": false, "text/plain; strings=utf8": false, "application/json; strings": false, "strings=utf8": false,
	} {
		if got := asksForText([]string{"*/*", header}); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

// What is written as text is read as what it was.
func TestTextComesBack(t *testing.T) {
	for _, m := range []proto.Message{
		&pb.RangeResponse{Header: &pb.ResponseHeader{ClusterId: 1 << 63, Revision: -1}, Kvs: []*mvccpb.KeyValue{{Key: []byte("a\x00\x7f\u00e9\"\\<"), Value: []byte{0xff}, Lease: 1 << 62}, {}}, More: true, Count: 2},
		&pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("v")}, RangeEnd: []byte{0}}},
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}}}}}}},
		},
		&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE, 77}}}},
		&pb.LeaseTimeToLiveResponse{Keys: [][]byte{[]byte("a"), {0xc0}, nil}},
		&pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: &authpb.Permission{PermType: authpb.WRITE, Key: []byte("k"), RangeEnd: []byte("l")}},
		&pb.SnapshotResponse{RemainingBytes: 1, Blob: []byte("abc"), Version: "3.7.0"},
		&pb.HashKVResponse{Hash: 1 << 31, HashRevision: 9},
		&pb.StatusResponse{Errors: []string{"a", "\u2028"}, IsLearner: true},
	} {
		comesBack(t, m)
	}
}

func comesBack(t *testing.T, m proto.Message) {
	t.Helper()
	text := appendText(nil, m.ProtoReflect())
	body, err := encodeBytes(text, m.ProtoReflect().Descriptor())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	got := m.ProtoReflect().New().Interface()
	if err := protojson.Unmarshal(body, got); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if !proto.Equal(got, m) {
		t.Errorf("%s: %v, not %v", text, got, m)
	}
}

func TestHalvedSurrogates(t *testing.T) {
	for text, want := range map[string]bool{
		`"\ud83d\ude00"`: false, `"\ud83d"`: true, `"\ude00"`: true, `"\ud83d\ud83d\ude00"`: true, `"\\ud83d"`: false, `"\\\ud83d"`: true, `"\u0041\n"`: false, `"\ud83d\u0041"`: true, `"\uD83D\uDE00"`: false,
		`"\ud8`: false, `\`: false,
	} {
		if got := halved([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// Text from anybody becomes a request, or an error that says why.
func FuzzText(f *testing.F) {
	for _, body := range append(bodies, `{"key":{"base64":"YQ=="}}`, `{"key":{"base64":7}}`, `{"key":{}}`, `{"success":[{"request_put":{"key":"a"}}]}`, `{"key":["a"]}`, `{"key":"\ud83d\ude00"}`, `{"compare":[{"value":"\u0000"}]}`) {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m := &marshaler{textIn: true, max: 1 << 20}
		got := &pb.TxnRequest{}
		if err := m.NewDecoder(strings.NewReader(string(body))).Decode(got); err == nil {
			comesBack(t, got)
		}
		put := &pb.PutRequest{}
		if err := m.Unmarshal(body, put); err == nil {
			comesBack(t, put)
		}
	})
}

func TestMarshalerMisuse(t *testing.T) {
	m := &marshaler{max: 10}
	if err := m.Unmarshal([]byte(`{}`), "a text"); err == nil {
		t.Error("a text is no message")
	}
	if err := m.NewDecoder(strings.NewReader(`{"key":"YWFhYWFh"}`)).Decode(&pb.PutRequest{}); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
	var out strings.Builder
	if err := m.NewEncoder(&out).Encode(&pb.PutRequest{Lease: 1}); err != nil || compact(t, out.String()) != `{"lease":"1"}` {
		t.Error(out.String(), err)
	}
}
