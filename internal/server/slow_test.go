package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/apply"
	"keelson/internal/kit/wire"
	"keelson/internal/state/mvcc"
)

// The lines are those of etcd 3.7.3, as it wrote them for the same requests with --warning-apply-duration=1ns; values never
// appear in them.
func TestSlowLines(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	var seen []string
	var reads []time.Duration
	s := &slow{warn: 100 * time.Millisecond, logger: zap.New(core), observe: &Observer{
		Range: func(_ bool, took time.Duration) { reads = append(reads, took) },
		Apply: func(op string, ok bool, _ time.Duration) {
			seen = append(seen, op, map[bool]string{true: "true", false: "false"}[ok])
		},
	}}
	start := time.Unix(1e9, 0)
	const late, early = 101 * time.Millisecond, 100 * time.Millisecond
	put := apply.Asked{Name: "Put", Request: &pb.InternalRaftRequest{
		Header: &pb.RequestHeader{ID: 7}, Put: &pb.PutRequest{Key: []byte("k"), Value: []byte("secret")},
	}}
	done := &apply.Result{Resp: &wire.PutResponse{Header: &wire.Header{Revision: 2}}}
	refused := &apply.Result{Err: errors.New("etcdserver: no space")}
	txn := &pb.TxnRequest{
		Compare: []*pb.Compare{{Target: pb.Compare_VALUE, Key: []byte("k"), TargetUnion: &pb.Compare_Value{Value: []byte("secret")}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}},
	}
	for _, x := range []struct {
		do   func()
		want []string // message, prefix, request, response
	}{
		{func() { s.entry(put, done, early) }, nil},
		{func() { s.entry(apply.Asked{}, &apply.Result{}, late) }, nil},
		{func() { s.entry(put, done, late) }, []string{"apply request took too long", "", `header:<ID:7> put:<key:"k" value_size:6 >`, "size:4"}},
		{func() { s.entry(put, refused, early) }, []string{"failed to apply request", "", `header:<ID:7> put:<key:"k" value_size:6 >`, ""}},
		{func() { s.entry(put, &apply.Result{Err: mvcc.ErrCompacted}, early) }, nil},
		{func() {
			s.ranged(&pb.RangeRequest{Key: []byte("k")}, &wire.RangeResponse{KVs: [][]byte{[]byte("kv")}}, start, start.Add(late/2), start.Add(late), nil)
		},
			[]string{"apply request took too long", "read-only range ", `key:"k"`, "range_response_count:1 size:4"}},
		{func() {
			s.ranged(&pb.RangeRequest{Key: []byte("k")}, nil, start, time.Time{}, start.Add(early), mvcc.ErrCompacted)
		}, nil},
		{func() {
			s.readTxn(txn, &wire.TxnResponse{Responses: []wire.ResponseOp{{Range: &wire.RangeResponse{}}}}, late, nil)
		}, []string{"apply request took too long", "read-only txn ", "compare:<", "responses:<range_response_count:0> size:"}},
		{func() { s.published(late) }, []string{"apply request took too long", "publishing ", "", ""}},
		{func() { s.published(early) }, nil},
	} {
		x.do()
		got := logs.TakeAll()
		if len(got) == 0 && x.want == nil {
			continue
		}
		if len(got) != 1 || x.want == nil {
			t.Errorf("%d lines: %v, want %q", len(got), got, x.want)
			continue
		}
		fields := got[0].ContextMap()
		prefix, _ := fields["prefix"].(string)
		request, _ := fields["request"].(string)
		response, _ := fields["response"].(string)
		if got[0].Message != x.want[0] || prefix != x.want[1] || !strings.HasPrefix(request, x.want[2]) || !strings.HasPrefix(response, x.want[3]) || strings.Contains(request, "secret") {
			t.Errorf("%q %q, want %q", got[0].Message, fields, x.want)
		}
	}
	if len(reads) != 1 || reads[0] != late-late/2 {
		t.Errorf("observed reads %v", reads)
	}
	if n := s.count.Load(); n != 4 {
		t.Errorf("%d slow ones counted", n)
	}
	if want := "Put true Put true Put false Put true"; strings.Join(seen, " ") != want {
		t.Errorf("observed %q, not %q", seen, want)
	}
}
