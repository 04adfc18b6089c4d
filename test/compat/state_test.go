package compat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// state is what a member serves, as far as two members that hold the same must agree.
type state struct {
	rev, compacted int64
	hash           uint32
	keys           []string
	leases         []string
	members        []string
}

// observe reads the whole state through one client.
func observe(t testing.TB, m *process.Member) state {
	t.Helper()
	c, ctx := m.Client(), t.Context()
	all, err := c.Get(ctx, "\x00", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	s := state{rev: all.Header.Revision}
	for _, kv := range all.Kvs {
		s.keys = append(s.keys, fmt.Sprintf("%q=%.40q (%d bytes) created %d changed %d version %d lease %x",
			kv.Key, kv.Value, len(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease))
	}
	h, err := clientv3.RetryMaintenanceClient(c, c.ActiveConnection()).HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.hash, s.compacted = h.Hash, h.CompactRevision
	leases, err := c.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		r, err := c.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys())
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(r.Keys, func(a, b []byte) int { return cmp.Compare(string(a), string(b)) })
		s.leases = append(s.leases, fmt.Sprintf("%x granted %d keys %q", int64(l.ID), r.GrantedTTL, r.Keys))
	}
	slices.Sort(s.leases)
	members, err := c.MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range members.Members {
		s.members = append(s.members, fmt.Sprintf("%x %s %v %v learner %v", p.ID, p.Name, p.PeerURLs, p.ClientURLs, p.IsLearner))
	}
	return s
}

// same reports where two states differ.
func same(t testing.TB, what string, got, want state) {
	t.Helper()
	if got.rev != want.rev || got.compacted != want.compacted || got.hash != want.hash {
		t.Errorf("%s: revision %d, compacted %d, hash %08x; want %d, %d, %08x", what, got.rev, got.compacted, got.hash, want.rev, want.compacted, want.hash)
	}
	for _, part := range []struct {
		name      string
		got, want []string
	}{{"keys", got.keys, want.keys}, {"leases", got.leases, want.leases}, {"members", got.members, want.members}} {
		if slices.Equal(part.got, part.want) {
			continue
		}
		t.Errorf("%s: %d %s, want %d", what, len(part.got), part.name, len(part.want))
		for _, x := range differences(part.got, part.want) {
			t.Log(x)
		}
	}
}

// differences lists the first lines that only one of two has.
func differences(got, want []string) []string {
	const shown = 6
	var out []string
	for _, x := range got {
		if !slices.Contains(want, x) && len(out) < shown {
			out = append(out, "+ "+x)
		}
	}
	for _, x := range want {
		if !slices.Contains(got, x) && len(out) < 2*shown {
			out = append(out, "- "+x)
		}
	}
	return out
}

// writer makes a history. Its errors fail the test.
type writer struct {
	t   testing.TB
	c   *clientv3.Client
	ctx context.Context
	rev int64
}

func (w *writer) put(key, value string, o ...clientv3.OpOption) {
	w.t.Helper()
	w.do(func() error {
		r, err := w.c.Put(w.ctx, key, value, o...)
		if err == nil {
			w.rev = r.Header.Revision
		}
		return err
	})
}

func (w *writer) del(key string, o ...clientv3.OpOption) {
	w.t.Helper()
	w.do(func() error { _, err := w.c.Delete(w.ctx, key, o...); return err })
}

func (w *writer) do(ask func() error) {
	w.t.Helper()
	if err := process.Settled(w.t, ask); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) lease(ttl int64) clientv3.LeaseID {
	w.t.Helper()
	l, err := w.c.Grant(w.ctx, ttl)
	if err != nil {
		w.t.Fatal(err)
	}
	return l.ID
}

// compact compacts, and waits until the member has.
func compact(t testing.TB, c *clientv3.Client, rev int64) {
	t.Helper()
	tries := 0
	err := process.Settled(t, func() error {
		tries++
		_, err := c.Compact(t.Context(), rev, clientv3.WithCompactPhysical())
		return err
	})
	if err != nil && (tries == 1 || !errors.Is(err, rpctypes.ErrCompacted)) { // an earlier try may have taken effect
		t.Fatal(err)
	}
}

// write makes a history of everything that leaves a trace in a directory: puts, overwrites, deletes, ranges of them,
// transactions, leases that live and one that was revoked, and a compaction in between. round keeps rounds apart.
func write(t testing.TB, m *process.Member, round int) {
	t.Helper()
	w := &writer{t: t, c: m.Client(), ctx: t.Context()}
	key := func(i int) string { return fmt.Sprintf("r%d/key%03d", round, i) }
	for i := range 150 {
		w.put(key(i), strings.Repeat("v", i*3))
	}
	for i := 0; i < 150; i += 2 {
		w.put(key(i), "again")
	}
	w.del(key(3))
	w.del(key(100), clientv3.WithRange(key(120)))
	w.put(key(105), "back")
	long, short, gone := w.lease(7200), w.lease(3600), w.lease(5000)
	w.put("leased/a"+key(0), "x", clientv3.WithLease(long))
	w.put("leased/b"+key(0), "x", clientv3.WithLease(long))
	w.put("leased/b"+key(0), "moved", clientv3.WithLease(short))
	w.put("leased/c"+key(0), "x", clientv3.WithLease(gone))
	w.put("leased/d"+key(0), "x", clientv3.WithLease(gone))
	if _, err := w.c.Revoke(w.ctx, gone); err != nil {
		t.Fatal(err)
	}
	w.put(key(7), "keeps its lease", clientv3.WithLease(long))
	w.put(key(7), "and keeps it", clientv3.WithIgnoreLease())
	compact(t, w.c, w.rev-20)
	for i := range 40 {
		w.do(func() error {
			_, err := w.c.Txn(w.ctx).If(clientv3.Compare(clientv3.Version(key(i)), ">", 1)).
				Then(clientv3.OpPut(key(i), "many"), clientv3.OpDelete(key(i+1)), clientv3.OpPut(key(200+i), "new"), clientv3.OpDelete("nothing")).
				Else(clientv3.OpDelete(key(i)), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(key(300+i), "nested")}, nil)).Commit()
			return err
		})
	}
	w.put("end", fmt.Sprint(round))
}
