package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// Three members' directories are migrated each for itself, after all stopped at one entry: they then hold the same keys with the
// same revisions, and go on as one cluster.
func TestMigrateCluster(t *testing.T) {
	t.Parallel()
	plainOnly(t, "v2 with users and certificates is compared elsewhere")
	all := three(t, "--enable-v2", steady)
	for i := range 40 {
		path, form := fmt.Sprintf("/dir%d/key%d", i%4, i), url.Values{"value": {fmt.Sprint(i)}}
		if i%5 == 0 {
			form.Set("ttl", "1000")
		}
		if e, status := v2(t, all[i%3], "PUT", path, form); status != http.StatusCreated {
			t.Fatalf("%d %+v", status, e)
		}
	}
	put(t, all[0].Client(), "/dir0/v3", "1")
	atOneEntry(t, all)
	for _, m := range all {
		m.Stop()
	}
	told := map[string]bool{}
	for _, m := range all {
		o := process.Tool(t, keelson.Path("etcdctl"), "", nil, "migrate", "--data-dir="+m.Dir)
		if o.Status != 0 || !strings.Contains(o.Stdout, "finished transforming keys: 40 keys, 0 leases for them") {
			t.Fatalf("exit %d: %s%s", o.Status, o.Stdout, o.Stderr)
		}
		told[o.Stdout[strings.Index(o.Stdout, "revision"):]] = true
	}
	if len(told) != 1 {
		t.Errorf("the members do not tell the same revision: %v", told)
	}
	for _, m := range all {
		m.Flags = nil
		m.Start()
	}
	hashes := map[uint32]bool{}
	for _, m := range all {
		m.WaitHealthy()
		c := m.Client()
		r, err := c.Get(t.Context(), "/dir", clientv3.WithPrefix())
		if err != nil || len(r.Kvs) != 41 {
			t.Errorf("%s: %d keys, %v", m.Name, len(r.Kvs), err)
		}
		h, err := pb.NewMaintenanceClient(c.ActiveConnection()).HashKV(t.Context(), &pb.HashKVRequest{Revision: r.Header.Revision})
		if err != nil {
			t.Fatal(err)
		}
		hashes[h.Hash] = true
		if k, err := c.Get(t.Context(), "/dir0/key20"); err != nil || len(k.Kvs) != 1 || k.Kvs[0].Lease == 0 {
			t.Errorf("%s: %v, %v", m.Name, k, err)
		}
	}
	if len(hashes) != 1 {
		t.Errorf("hashes %v", hashes)
	}
	put(t, all[1].Client(), "/dir0/after", "1")
}

// atOneEntry waits until all members have executed the same entry.
func atOneEntry(t *testing.T, all []*process.Member) {
	t.Helper()
	process.Until(t, "all members are at one entry", func() error {
		at := map[uint64]bool{}
		for _, m := range all {
			s, err := m.Client().Status(t.Context(), m.ClientAddr)
			if err != nil {
				return err
			}
			at[s.RaftAppliedIndex] = true
		}
		if len(at) != 1 {
			return fmt.Errorf("at %v", at)
		}
		return nil
	})
}
