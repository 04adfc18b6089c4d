package main

import (
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		of   []time.Duration
		q    float64
		want time.Duration
	}{
		{nil, 0.5, 0}, {hundred[:1], 0.99, 1}, {hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1}, {hundred[:3], 0.5, 2},
	} {
		if got := percentile(c.of, c.q); got != c.want {
			t.Errorf("%v of %d values: %d, not %d", c.q, len(c.of), got, c.want)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want spread
	}{
		{nil, spread{}}, {[]float64{3}, spread{3, 3, 3}}, {[]float64{9, 1, 2}, spread{2, 1, 9}}, {[]float64{4, 1, 2, 9}, spread{3, 1, 9}},
	} {
		if got := spreadOf(c.of); got != c.want {
			t.Errorf("%v: %v, not %v", c.of, got, c.want)
		}
	}
}

// The late watcher's answers are counted without being decoded as a whole.
func TestScanEvents(t *testing.T) {
	s := eventScan{last: map[uint64]uint64{}}
	for _, rev := range []int64{5, 6, 7} {
		if err := s.add(watchAnswer(rev, rev)); err != nil {
			t.Fatal(err)
		}
	}
	if s.events != 6 || s.last[3] != 7 {
		t.Errorf("%d events up to %v", s.events, s.last)
	}
	if err := s.add(watchAnswer(6)); err == nil {
		t.Error("a revision that came before was taken")
	}
	if err := s.add([]byte{0x5a, 0x7f}); err == nil {
		t.Error("a torn answer was taken")
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	var r results
	for round, rate := range []float64{100, 300, 200} {
		r.add(result{Work: "put", Server: keelson, Round: round, measure: measure{Ops: 10, Rate: rate * 2, CPU: 50, P99: 3}})
		r.add(result{Work: "put", Server: peer, Round: round, measure: measure{Ops: 10, Rate: rate, CPU: 100, P99: 4}})
	}
	r.print(&out)
	for _, want := range []string{"put", "400", "200–600", "2.00×", "0.50×", "0.75×"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// watchAnswer is an encoded answer with an event of each revision.
func watchAnswer(revs ...int64) []byte {
	w := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: revs[0]}, WatchId: 3}
	for _, rev := range revs {
		w.Events = append(w.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: keyOf(1), Value: someValue(), ModRevision: rev}})
	}
	return encode(w)
}
