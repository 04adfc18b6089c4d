package compat

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/test/process"
)

// Members that know nothing of v2 hold its data as any other: in a cluster of two of Keelson and a stock one, v2 is served by
// both of the first, and all three have the same.
func TestV2InAMixedCluster(t *testing.T) {
	all := process.Cluster(t, []process.Program{ours(t), stock(t, "etcd37"), ours(t)})
	for i, m := range all {
		if i != 1 {
			m.Flags = append(m.Flags, "--enable-v2")
		}
		m.Start()
	}
	var sides []*v2Side
	for i, m := range all {
		m.WaitHealthy()
		if i != 1 {
			sides = append(sides, &v2Side{m: m, client: &http.Client{}})
		}
	}
	do := func(n int, method, path string, form url.Values) {
		var a v2Answer
		tries := 0
		process.Until(t, "no election is in the way", func() error {
			tries++
			if a = sides[n%2].do(v2Step{method: method, path: "/v2/keys" + path, form: form}); a.status >= 500 {
				return fmt.Errorf("%v", a)
			}
			return nil
		})
		gone := method == "DELETE" && tries > 1 && a.status == http.StatusNotFound // by an earlier try
		if a.err != nil || a.status >= 400 && !gone {
			t.Errorf("%s %s: %v", method, path, a)
		}
	}
	for i := range 40 {
		do(i, "PUT", fmt.Sprintf("/d/%d", i%7), url.Values{"value": {fmt.Sprint(i)}})
		do(i+1, "POST", "/queue", url.Values{"value": {"x"}})
		do(i, "PUT", fmt.Sprintf("/ttl/%d", i), url.Values{"ttl": {"1"}, "dir": {"true"}})
		do(i, "PUT", fmt.Sprintf("/d/%d?prevExist=true", i%7), url.Values{"ttl": {"900"}})
	}
	do(0, "DELETE", "/queue?recursive=true", nil)
	process.Until(t, "directories expire on both", func() error {
		for _, s := range sides {
			if a := s.do(v2Step{method: "GET", path: "/v2/keys/ttl"}); len(a.body) > 200 {
				return fmt.Errorf("%v", a)
			}
		}
		return nil
	})
	process.Until(t, "all members have the same", func() error {
		var first *pb.HashKVResponse
		for _, m := range all {
			h, err := m.Client().HashKV(context.Background(), m.ClientAddr, 0)
			if err != nil {
				return err
			}
			if first == nil {
				first = (*pb.HashKVResponse)(h)
			}
			if h.Hash != first.Hash || h.HashRevision != first.HashRevision {
				return fmt.Errorf("%v and %v", first, h)
			}
		}
		return nil
	})
}
