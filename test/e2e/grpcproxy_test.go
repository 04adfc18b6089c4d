package e2e

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"keelson/test/authority"
	"keelson/test/process"
)

// Every command of docs/grpc-proxy.md works, in the order of the page.
func TestProxyPage(t *testing.T) {
	t.Parallel()
	out := followPage(t, "../../docs/grpc-proxy.md", "curl", 4, "HOST=127.45.2.1")
	for _, want := range []string{"\ngreeting\nhello\n", "\nmy-prefix/my-key\nabc\n", "\netcd_grpc_proxy_watchers_coalescing_total 0\n"} {
		if !t.Failed() && !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// What etcdctl does with a member works through a proxy too.
func TestProxyPassesOn(t *testing.T) {
	plainOnly(t, "TestProxyTLS has certificates, TestProxyUsers has users")
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	p := process.Proxy(t, []*process.Member{m}, "--namespace=ns/")
	p.Ctl("put", "a", "1")
	p.Ctl("put", "b", "2")
	for _, c := range []struct{ args, want string }{
		{"get --prefix --keys-only a", "a\n"},
		{"get a --consistency=s", "a\n1\n"},
		{"del b --prev-kv", "1\nb\n2\n"},
		{"lock l -- echo held", "held\n"},
		{"alarm list", ""},
		{"user list", ""},
		{"lease list", "found 0 leases\n"},
		{"compaction 2", "compacted revision 2\n"},
		{"member list", p.ClientAddr},
		{"endpoint status", p.ClientAddr},
		{"snapshot save " + filepath.Join(t.TempDir(), "x.db"), "Snapshot saved"},
	} {
		if got := p.Ctl(strings.Fields(c.args)...); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q has no %q", c.args, got, c.want)
		}
	}
	session, err := concurrency.NewSession(p.Client(), concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	e := concurrency.NewElection(session, "e")
	if err := e.Campaign(t.Context(), "mine"); err != nil || !strings.HasPrefix(e.Key(), "e/") {
		t.Errorf("%q, %v", e.Key(), err)
	}
	if got := m.Ctl("get", "ns/e", "--prefix", "--print-value-only"); got != "mine\n" {
		t.Errorf("the election lies at the members as %q", got)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	p.Stop()
	m.Stop()
}

// Requests and answers on the way to the members are bounded as the flags say.
func TestProxyLimits(t *testing.T) {
	plainOnly(t, "a proxy has a user's certificate for nobody")
	t.Parallel()
	m := process.Single(t, keelson, "").Serve()
	p := process.Proxy(t, []*process.Member{m}, "--max-send-bytes=3000", "--max-recv-bytes=2000")
	c := p.Client()
	if _, err := c.Put(t.Context(), "small", strings.Repeat("x", 1000)); err != nil {
		t.Error(err)
	}
	if _, err := c.Put(t.Context(), "middle", strings.Repeat("x", 2500)); err != nil {
		t.Error(err)
	}
	if _, err := c.Put(t.Context(), "large", strings.Repeat("x", 3500)); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a put of 3,500 bytes: %v", err)
	}
	if _, err := c.Get(t.Context(), "small"); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), "middle"); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("an answer of 2,500 bytes: %v", err)
	}
}

// With leases on ranges and ordering, what is read is what was last written, by whomever.
func TestProxyLeasing(t *testing.T) {
	plainOnly(t, "a proxy has a user's certificate for nobody")
	t.Parallel()
	all := three(t, steady)
	flags := []string{"--experimental-leasing-prefix=leases/", "--experimental-serializable-ordering"}
	one, other := process.Proxy(t, all, flags...), process.Proxy(t, all, flags...)
	a, b := one.Client(), other.Client()
	for i := range 20 {
		want := fmt.Sprint(i)
		if _, err := a.Put(t.Context(), "k", want); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*clientv3.Client{b, a, b} {
			if r, err := c.Get(t.Context(), "k"); err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != want {
				t.Fatalf("%v, %v, not %s", r, err, want)
			}
		}
		a, b = b, a
	}
}

// proxyWritesMin is how many writes go through between two kills.
const proxyWritesMin = 25

// Members are killed under writers behind two proxies, of which one is killed too: all that was acknowledged is there.
func TestProxyKills(t *testing.T) {
	plainOnly(t, "a proxy has a user's certificate for nobody")
	t.Parallel()
	all := three(t)
	proxies := []*process.Member{process.Proxy(t, all), process.Proxy(t, all)}
	writers := &crowd{acked: make([]int, 16)}
	writers.start(t, proxies)
	tick := time.NewTicker(killInterval)
	defer tick.Stop()
	for i := range 3 {
		<-tick.C
		writers.await(t, proxyWritesMin)
		all[i].Kill()
		if i == 1 {
			proxies[0].Kill()
			proxies[0].Start()
		}
		all[i].Start()
	}
	<-tick.C
	writers.await(t, proxyWritesMin)
	writers.stop()
	for _, m := range all {
		m.WaitHealthy()
	}
	writers.check(t, all[0])
	agreeOnHash(t, all)
}

// A follower that dies is hidden from whoever reads: no call fails.
func TestProxyHidesFailure(t *testing.T) {
	plainOnly(t, "a proxy has a user's certificate for nobody")
	t.Parallel()
	all := three(t)
	p := process.Proxy(t, all)
	c := p.Client()
	follower := all[(leader(t, all)+1)%3]
	for i := range 200 {
		if i == 50 {
			follower.Kill()
		}
		if _, err := c.Get(t.Context(), "x"); err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
		if _, err := c.Get(t.Context(), "x", clientv3.WithSerializable()); err != nil {
			t.Fatalf("serializable read %d: %v", i, err)
		}
	}
}

// An event is seen once and in its place by a watcher behind a proxy, whatever dies meanwhile.
func TestProxyWatch(t *testing.T) {
	plainOnly(t, "a proxy has a user's certificate for nobody")
	t.Parallel()
	const events = 60
	all := three(t)
	p := process.Proxy(t, all)
	ctx, cancel := context.WithTimeout(t.Context(), 3*process.Patience) // for all events, some of which meet a death
	defer cancel()
	first, err := process.Answered(t, func() (*clientv3.PutResponse, error) { return all[0].Client().Put(ctx, "w/", "first") })
	if err != nil {
		t.Fatal(err)
	}
	rev := first.Header.Revision
	w := p.Client().Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithRev(rev+1))
	go func() {
		c := process.Dial(t, all...)
		for i := range events {
			switch i {
			case events / 3:
				p.Kill()
				p.Start()
			case events / 2:
				all[1].Kill()
			}
			for ctx.Err() == nil { // a put that was sent to a dying member may be there twice, and is seen so
				if _, err := c.Put(ctx, fmt.Sprint("w/", i%7), fmt.Sprint(i)); err == nil {
					break
				}
			}
		}
	}()
	seen := map[string]bool{}
	last := rev
	for len(seen) < events {
		resp, ok := <-w
		if !ok || resp.Err() != nil {
			t.Fatalf("after %d events: %v, %v", len(seen), resp.Err(), ctx.Err())
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision != last+1 {
				t.Errorf("revision %d after %d", e.Kv.ModRevision, last)
			}
			last = e.Kv.ModRevision
			seen[string(e.Kv.Value)] = true
		}
	}
}

// Nobody sees through a proxy what another user may see, and no call is repeated for a token that nobody has.
func TestProxyUsers(t *testing.T) {
	plainOnly(t, "it has users of its own")
	t.Parallel()
	m := process.Single(t, keelson, "", "--bcrypt-cost=4").Serve()
	p := process.Proxy(t, []*process.Member{m}, "--resolver-prefix=___p", "--resolver-ttl=60")
	for _, line := range []string{
		"put a secret", "put b other", "role add ra", "role add rb", "role grant-permission ra readwrite a", "role grant-permission rb readwrite b",
		"user add root:r", "user grant-role root root", "user add alice:a", "user grant-role alice ra", "user add bob:b", "user grant-role bob rb", "auth enable",
	} {
		p.Ctl(strings.Fields(line)...)
	}
	dial := func(name, password, token string) *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{p.ClientAddr}, Username: name, Password: password, Token: token, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	alice, bob := dial("alice", "a", ""), dial("bob", "b", "")
	for range 3 {
		if r, err := alice.Get(t.Context(), "a", clientv3.WithSerializable()); err != nil || string(r.Kvs[0].Value) != "secret" {
			t.Fatal(r, err)
		}
		for name, c := range map[string]*clientv3.Client{"bob": bob, "nobody": dial("", "", "")} {
			if r, err := c.Get(t.Context(), "a", clientv3.WithSerializable()); err == nil || r != nil {
				t.Errorf("%s reads what alice may: %v, %v", name, r, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
	defer cancel()
	mine := alice.Watch(ctx, "a", clientv3.WithCreatedNotify())
	if resp := <-mine; resp.Err() != nil || !resp.Created {
		t.Fatalf("alice's watch: %v, %v", resp, resp.Err())
	}
	if resp := <-bob.Watch(ctx, "a"); resp.Err() == nil {
		t.Errorf("bob watches what alice may: %v", resp)
	}
	if _, err := alice.Put(ctx, "a", "new"); err != nil {
		t.Error(err)
	}
	if resp := <-mine; len(resp.Events) != 1 || string(resp.Events[0].Kv.Value) != "new" {
		t.Errorf("alice's watch: %v, %v", resp, resp.Err())
	}
	const refusals = `grpc_server_handled_total{grpc_code="Unauthenticated",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`
	before := m.Metric(refusals)
	if _, err := dial("", "", "forged.1").Put(ctx, "a", "x"); !errors.Is(err, rpctypes.ErrInvalidAuthToken) {
		t.Errorf("a forged token: %v", err)
	}
	if n := m.Metric(refusals) - before; n != 1 {
		t.Errorf("the member was asked %v times about a forged token", n)
	}
	if got, err := bob.MemberList(ctx); err != nil || got.Members[0].ClientURLs[0] != p.ClientAddr {
		t.Errorf("bob's member list: %v, %v", got, err)
	}
}

// A proxy speaks mutual TLS on both sides, with certificates of its own.
func TestProxyTLS(t *testing.T) {
	t.Parallel()
	c := threeMutual(t)
	own := c.ca.Local(c.dir, "proxy", func(x *x509.Certificate) { x.Subject = pkix.Name{Organization: []string{"proxy"}} })
	p := process.Proxy(t, c.all, "--cert="+own.CertFile, "--key="+own.KeyFile, "--cacert="+c.at("ca"),
		"--cert-file="+own.CertFile, "--key-file="+own.KeyFile, "--trusted-ca-file="+c.at("ca"))
	p.TLS = authority.Client(&c.client, c.ca)
	client := p.Client()
	process.Until(t, "the proxy serves", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Put(ctx, "a", "b")
		return err
	})
	for _, path := range []string{"/health", "/metrics"} {
		process.Until(t, "the proxy answers "+path, func() error {
			text, err := p.HTTP(path)
			if err == nil && !strings.Contains(text, "true") && !strings.Contains(text, "etcd_server_has_leader 1") {
				err = fmt.Errorf("%.200s", text)
			}
			return err
		})
	}
	nameless, err := clientv3.New(clientv3.Config{Endpoints: []string{p.ClientURL()}, TLS: authority.Client(nil, c.ca), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer nameless.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := nameless.Get(ctx, "a"); err == nil {
		t.Error("who shows no certificate is served")
	}
}
