package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// under gives the keys of a member that begin with prefix, without it, and their values.
func under(t *testing.T, c *clientv3.Client, prefix string) map[string]string {
	t.Helper()
	r, err := c.Get(context.Background(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range r.Kvs {
		all[strings.TrimPrefix(string(kv.Key), prefix)] = string(kv.Value)
	}
	return all
}

// mirrored waits until the keys under /b/ of dst are those under /a/ of src.
func mirrored(t *testing.T, what string, src, dst *clientv3.Client) {
	t.Helper()
	process.Until(t, what, func() error {
		want, got := under(t, src, "/a/"), under(t, dst, "/b/")
		if len(want) != len(got) {
			return fmt.Errorf("%d keys, not %d", len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				return fmt.Errorf("%s is %q, not %q", k, got[k], v)
			}
		}
		return nil
	})
}

// A mirror copies what is there, then puts, deletes and whole transactions, through restarts of both sides; one that was
// stopped goes on from a revision.
func TestMirror(t *testing.T) {
	plainOnly(t, "the destination has certificates of its own")
	t.Parallel()
	source, copied := process.Single(t, keelson, "").Serve(), process.Single(t, keelson, "").Serve()
	src, dst, ctx := source.Client(), copied.Client(), context.Background()
	put := func(k, v string) {
		t.Helper()
		if _, err := src.Put(ctx, k, v); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 11 { // more than a page of the first copy, by few syncs
		var ops []clientv3.Op
		for n := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/a/%04d", i*100+n), "first"))
		}
		if _, err := src.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	put("/other", "not copied")
	same := func(what string) {
		t.Helper()
		mirrored(t, what, src, dst)
	}
	flags := []string{"make-mirror", "--prefix=/a/", "--dest-prefix=/b/", "--max-txn-ops=4", copied.ClientAddr}
	mirror := behind(t, source, flags...)
	same("the first copy is whole")

	change := func(round string) {
		t.Helper()
		var ops []clientv3.Op
		for i := range 10 { // more than --max-txn-ops
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/a/%s-%d", round, i), round))
		}
		ops = append(ops, clientv3.OpDelete("/a/00", clientv3.WithPrefix()))
		if _, err := src.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
		put("/a/0001", round)
		if _, err := src.Delete(ctx, "/a/01", clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		put("/a/0100", round)
	}
	change("one")
	same("changes are copied")
	copied.Kill()
	change("two")
	copied.Serve()
	same("changes are copied that were made while the destination was away")
	source.Kill()
	source.Serve()
	change("three")
	same("changes are copied after the source was away")
	if err := mirror.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r, err := src.Get(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	change("four")
	behind(t, source, append(flags, fmt.Sprintf("--rev=%d", r.Header.Revision+1))...)
	same("a mirror goes on where it was stopped")
	if all := under(t, dst, "/"); len(all) != len(under(t, dst, "/b/")) {
		t.Errorf("%d keys at the destination, some outside the prefix", len(all))
	}
}
