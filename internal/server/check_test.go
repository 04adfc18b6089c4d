package server

import (
	"errors"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestSpans compares unions of spans with a plain list of what was added.
func TestSpans(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		key := func() []byte {
			b := make([]byte, r.IntN(3))
			for i := range b {
				b[i] = byte(r.IntN(4))
			}
			return b
		}
		var s spans
		type raw struct{ key, end []byte }
		var added []raw
		for range 1 + r.IntN(8) {
			a := raw{key(), key()}
			if len(a.key) == 0 {
				a.key = []byte{1}
			}
			s.add(a.key, a.end)
			added = append(added, a)
		}
		for range 60 {
			k := key()
			want := false
			for _, a := range added {
				want = want || inRange(k, a.key, a.end)
			}
			if got := s.contains(k); got != want {
				t.Fatalf("seed %d: %v contains %v: %v, want %v", seed, added, k, got, want)
			}
		}
	}
}

// inRange is etcd's meaning of a key and a range end, said plainly.
func inRange(k, key, end []byte) bool {
	switch {
	case len(end) == 0:
		return string(k) == string(key)
	case len(end) == 1 && end[0] == 0:
		return string(k) >= string(key)
	}
	return string(k) >= string(key) && string(k) < string(end)
}

// TestTxnOverlaps checks which transactions change a key twice.
func TestTxnOverlaps(t *testing.T) {
	put := func(k string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(k)}}}
	}
	del := func(k, end string) *pb.RequestOp {
		r := &pb.DeleteRangeRequest{Key: []byte(k), RangeEnd: []byte(end)}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
	}
	nested := func(then, other []*pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: then, Failure: other}}}
	}
	type ops = []*pb.RequestOp
	for what, c := range map[string]struct {
		ops  ops
		want error
	}{
		"two puts of one key":                    {ops{put("a"), put("a")}, ErrDuplicateKey},
		"two deletes of one key":                 {ops{del("a", ""), del("a", "c")}, nil},
		"a put in a deleted range":               {ops{put("b"), del("a", "c")}, ErrDuplicateKey},
		"a put at the end of a deleted range":    {ops{put("c"), del("a", "c")}, nil},
		"a put after from-key":                   {ops{put("z"), del("a", "\x00")}, ErrDuplicateKey},
		"both branches of one nested":            {ops{nested(ops{put("a")}, ops{put("a")})}, nil},
		"a nested put and one beside it":         {ops{nested(ops{put("a")}, nil), put("a")}, ErrDuplicateKey},
		"two nested puts":                        {ops{nested(ops{put("a")}, nil), nested(nil, ops{put("a")})}, ErrDuplicateKey},
		"a nested delete and a put beside it":    {ops{nested(nil, ops{del("a", "c")}), put("b")}, ErrDuplicateKey},
		"a nested delete before a nested put":    {ops{nested(ops{del("a", "")}, nil), nested(ops{put("a")}, nil)}, ErrDuplicateKey},
		"a nested put and a delete of the outer": {ops{nested(ops{put("a")}, nil), del("a", "")}, ErrDuplicateKey},
	} {
		if err := checkTxn(&pb.TxnRequest{Success: c.ops}, 100); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if err := checkTxn(&pb.TxnRequest{Failure: c.ops}, 100); !errors.Is(err, c.want) {
			t.Errorf("%s, in the other branch: %v, want %v", what, err, c.want)
		}
	}
}
