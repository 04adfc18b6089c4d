package compat

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// v2call makes one request of the v2 API and gives the status and the body.
func v2call(t testing.TB, m *process.Member, method, path string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, m.ClientURL()+"/v2/keys"+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// ttlUnit divides the TTLs of a history but the shortest: rounded up to it, what is left is what was asked for.
const ttlUnit = 1000

// v2history changes v2's tree at random, by every kind of request.
func v2history(t testing.TB, m *process.Member, r *rand.Rand, n int) {
	t.Helper()
	path := func() string {
		p := ""
		for range 1 + r.IntN(3) {
			p += "/" + string(rune('a'+r.IntN(4)))
		}
		return p
	}
	for range n {
		form := url.Values{"value": {strconv.Itoa(r.IntN(5))}}
		method, at := "PUT", path()
		switch r.IntN(12) {
		case 0, 1:
			form.Set("ttl", strconv.Itoa(ttlUnit*(1+r.IntN(9))))
		case 2:
			form.Set("ttl", "1")
		case 3:
			form = url.Values{"dir": {"true"}, "ttl": {strconv.Itoa(ttlUnit * (1 + r.IntN(9)))}}
		case 4:
			form = url.Values{"dir": {"true"}, "prevExist": {"true"}, "ttl": {strconv.Itoa(ttlUnit * (1 + r.IntN(9)))}}
		case 5:
			form.Set("prevExist", strconv.FormatBool(r.IntN(2) == 0))
		case 6:
			form.Set("prevValue", strconv.Itoa(r.IntN(5)))
		case 7:
			form.Set("prevIndex", strconv.Itoa(4+r.IntN(n)))
		case 8:
			method = "POST"
		case 9:
			form = url.Values{"refresh": {"true"}, "ttl": {strconv.Itoa(ttlUnit * (1 + r.IntN(9)))}, "prevExist": {"true"}}
		case 10:
			method, at, form = "DELETE", at+[]string{"", "?recursive=true", "?dir=true", "?prevValue=1"}[r.IntN(4)], nil
		}
		v2call(t, m, method, at, form)
	}
}

// v2node is a node as the v2 API shows it.
type v2node struct {
	Key        string
	Value      string
	Dir        bool
	TTL        int64
	Expiration *time.Time
	Nodes      []v2node
}

// v2tree reads the whole tree.
func v2tree(t testing.TB, m *process.Member) v2node {
	t.Helper()
	status, body := v2call(t, m, "GET", "/?recursive=true&sorted=true&quorum=true", nil)
	var r struct{ Node v2node }
	if err := json.Unmarshal([]byte(body), &r); status != http.StatusOK || err != nil {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	return r.Node
}

// files lists what a node holds; ttl is what the directories above it have left, 0 for ever.
func (n *v2node) files(ttl int64, f func(n *v2node, ttl int64)) {
	if ttl == 0 || n.TTL > 0 && n.TTL < ttl {
		ttl = n.TTL
	}
	if !n.Dir {
		f(n, ttl)
	}
	for i := range n.Nodes {
		n.Nodes[i].files(ttl, f)
	}
}

// copied gives a member of the same program on a copy of another's directory.
func copied(t testing.TB, m *process.Member, p process.Program, flags ...string) *process.Member {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	// Copying widens the modes, about which members complain.
	for _, d := range []string{dir, filepath.Join(dir, "member"), filepath.Join(dir, "member", "snap"), filepath.Join(dir, "member", "wal")} {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return process.Single(t, p, dir, flags...)
}

// migrated runs a program's migrate on a member's directory.
func migrated(t testing.TB, p process.Program, m *process.Member, args ...string) process.Outcome {
	t.Helper()
	o := process.Tool(t, p.Path("etcdctl"), "", []string{"ETCDCTL_API=3"}, append([]string{"migrate", "--endpoints=127.0.0.1:1", "--data-dir=" + m.Dir}, args...)...)
	if o.Status != 0 {
		t.Fatalf("%s's migrate: exit %d\n%s%s", p.Name, o.Status, o.Stdout, o.Stderr)
	}
	return o
}

// keysOf reads all v3 keys: name, value and revisions, and apart from them their leases' TTLs.
func keysOf(t testing.TB, m *process.Member) (keys []string, ttls map[string]int64) {
	t.Helper()
	all, err := m.Client().Get(t.Context(), "\x00", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	ttls = map[string]int64{}
	for _, kv := range all.Kvs {
		keys = append(keys, fmt.Sprintf("%s=%s created %d changed %d version %d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version))
		if kv.Lease == 0 {
			continue
		}
		l, err := m.Client().TimeToLive(t.Context(), clientv3.LeaseID(kv.Lease), clientv3.WithAttachedKeys())
		if err != nil || !slices.ContainsFunc(l.Keys, func(k []byte) bool { return string(k) == string(kv.Key) }) {
			t.Errorf("%s has lease %x: %+v, %v", kv.Key, kv.Lease, l, err)
			continue
		}
		ttls[string(kv.Key)] = l.GrantedTTL
	}
	return keys, ttls
}

// v2Settled waits until the keys with a TTL of a second are gone, which the log tells, too.
func v2Settled(t testing.TB, m *process.Member) {
	t.Helper()
	process.Until(t, "short TTLs have ended", func() error {
		root := v2tree(t, m)
		var short error
		root.files(0, func(n *v2node, _ int64) {
			if n.Expiration != nil && n.TTL < 500 {
				short = errors.New(n.Key)
			}
		})
		return short
	})
}

// Directories of 3.4 with histories made at random become the same keys by both programs' migrate, with the same revisions, also
// where the member was killed; what expires has a lease of ours. The directory is then 3.4's, 3.5's and Keelson's.
func TestMigrateStock(t *testing.T) {
	for _, e := range ends {
		for _, flags := range [][]string{nil, {"--snapshot-count=50"}} {
			if e.name == "killed" && flags != nil {
				continue // 3.4's own migrate does not read a directory whose last .snap file is not in the log yet
			}
			t.Run(fmt.Sprint(e.name, flags), func(t *testing.T) {
				t.Parallel()
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				there := stock(t, "etcd34")
				flags := append([]string{"--enable-v2"}, flags...)
				m := process.Single(t, there, "", flags...).Serve()
				v2history(t, m, rand.New(rand.NewPCG(seed, 1)), 200)
				v2Settled(t, m)
				tree := v2tree(t, m)
				e.how(m)

				real, own := copied(t, m, there, flags...), copied(t, m, there, flags...)
				migrated(t, there, real)
				o := migrated(t, ours(t), own)
				if !strings.HasPrefix(o.Stdout, "using default transformer\nfinished transforming keys") {
					t.Errorf("it says %q", o.Stdout)
				}
				want, _ := keysOf(t, real.Serve())
				got, ttls := keysOf(t, own.Serve())
				if !slices.Equal(got, want) {
					t.Errorf("%d keys, want %d\n%s", len(got), len(want), strings.Join(differences(got, want), "\n"))
				}
				files := 0
				tree.files(0, func(n *v2node, ttl int64) {
					files++
					if have := ttls[n.Key]; have > ttl || ttl > 0 && have < ttl-60 {
						t.Errorf("%s has %d s left, and a lease of %d s", n.Key, ttl, have)
					}
				})
				if files == 0 || files != len(got) {
					t.Errorf("%d v2 keys, %d v3 keys", files, len(got))
				}
				state := observe(t, own)
				own.Stop()
				if o := migrated(t, ours(t), own); !strings.Contains(o.Stdout, "no v2 keys to migrate") {
					t.Errorf("once more it says %q", o.Stdout)
				}
				own.Flags = nil
				for _, p := range []process.Program{stock(t, "etcd35"), ours(t), stock(t, "etcd37")} {
					own.With(p).Serve()
					same(t, "migrated, then "+p.Name, observe(t, own), state)
					own.Stop()
				}
			})
		}
	}
}

// What v3 held survives in a directory of 3.4, also what the log alone has because the member was killed; 3.4's own migrate
// loses some of it.
func TestMigrateBesideV3(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			there := stock(t, "etcd34")
			m := process.Single(t, there, "", "--enable-v2", "--snapshot-count=50").Serve()
			v2call(t, m, "PUT", "/mine", url.Values{"value": {"v2's"}})
			write(t, m, 0)
			v2history(t, m, rand.New(rand.NewPCG(1, 1)), 50)
			v2Settled(t, m)
			for i := range 10 {
				if _, err := m.Client().Put(t.Context(), fmt.Sprint("late", i), "x"); err != nil {
					t.Fatal(err)
				}
				v2call(t, m, "PUT", fmt.Sprint("/late", i), url.Values{"value": {"y"}})
			}
			if _, err := m.Client().Put(t.Context(), "/mine", "v3's"); err != nil {
				t.Fatal(err)
			}
			lease, err := m.Client().Grant(t.Context(), 5000)
			if err != nil {
				t.Fatal(err)
			}
			before, tree := observe(t, m), v2tree(t, m)
			e.how(m)
			o := migrated(t, ours(t), m)
			if !strings.Contains(o.Stderr, "1 keys were passed over, v3 has them with other values: /mine\n") {
				t.Errorf("it says %q", o.Stderr)
			}
			m.Flags = nil
			for _, p := range []process.Program{there, ours(t)} {
				m.With(p).Serve()
				after := observe(t, m)
				for _, k := range before.keys {
					if !slices.Contains(after.keys, k) {
						t.Errorf("%s: lost %s", p.Name, k)
					}
				}
				if l, err := m.Client().TimeToLive(t.Context(), lease.ID); err != nil || l.GrantedTTL != 5000 {
					t.Errorf("%s: the last lease: %+v, %v", p.Name, l, err)
				}
				tree.files(0, func(n *v2node, _ int64) {
					if r, err := m.Client().Get(t.Context(), n.Key); err != nil || len(r.Kvs) != 1 || n.Key != "/mine" && string(r.Kvs[0].Value) != n.Value {
						t.Errorf("%s: %s is %v, %v", p.Name, n.Key, r.Kvs, err)
					}
				})
				m.Stop()
			}
		})
	}
}

// Three members of 3.4, each of which may have stopped at another entry and made its .snap file at another one, have the same
// keys after each directory was migrated, and go on as a cluster of 3.4, then of Keelson.
func TestMigrateStockCluster(t *testing.T) {
	t.Parallel()
	there := stock(t, "etcd34")
	all := process.Cluster(t, []process.Program{there, there, there}, "--enable-v2", "--snapshot-count=50")
	start := func(p process.Program) {
		for _, m := range all {
			m.With(p).Start()
		}
		for _, m := range all {
			m.WaitHealthy()
		}
	}
	start(there)
	v2history(t, all[1], rand.New(rand.NewPCG(9, 1)), 150)
	v2Settled(t, all[2])
	if err := process.Settled(t, func() error { _, err := all[0].Client().Put(t.Context(), "v3", "x"); return err }); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		m.Stop()
	}
	for _, m := range all {
		migrated(t, ours(t), m)
		m.Flags = nil
	}
	for _, p := range []process.Program{there, ours(t)} {
		start(p)
		want := observe(t, all[0])
		for _, m := range all[1:] {
			got := observe(t, m)
			if len(got.leases) != len(want.leases) {
				t.Errorf("%d leases, want %d", len(got.leases), len(want.leases))
			}
			got.leases = want.leases // each has left what it had when the directory was migrated
			same(t, m.Name+", "+p.Name, got, want)
		}
		if len(want.keys) < 10 || len(want.leases) == 0 || !slices.ContainsFunc(want.keys, func(k string) bool { return strings.HasPrefix(k, `"v3"="x"`) }) {
			t.Errorf("%s: keys %q, leases %q", p.Name, want.keys, want.leases)
		}
		if err := process.Settled(t, func() error { _, err := all[2].Client().Put(t.Context(), "after "+p.Name, "x"); return err }); err != nil {
			t.Error(err)
		}
		for _, m := range all {
			m.Stop()
		}
	}
}

// What Keelson kept of v2 moves, with TTLs and beside v3's own keys, also where the member was killed; the directory is then
// Keelson's and 3.7.3's, and nothing of v2 is left in it.
func TestMigrateKeelson(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			m := process.Single(t, ours(t), "", "--enable-v2", "--snapshot-count=50").Serve()
			write(t, m, 0)
			v2history(t, m, rand.New(rand.NewPCG(5, 1)), 200)
			v2Settled(t, m)
			before, tree := observe(t, m), v2tree(t, m)
			e.how(m)
			migrated(t, ours(t), m, "--wal-dir="+filepath.Join(m.Dir, "member", "wal"))
			m.Flags = nil
			var own state
			for i, p := range []process.Program{ours(t), stock(t, "etcd37"), ours(t)} {
				m.With(p).Serve()
				after := observe(t, m)
				if i == 0 {
					own = after
				}
				same(t, "migrated, then "+p.Name, after, own)
				m.Stop()
				if o := migrated(t, ours(t), m); !strings.Contains(o.Stdout, "no v2 keys to migrate") {
					t.Errorf("once more it says %q", o.Stdout)
				}
			}
			for _, k := range before.keys {
				if !strings.HasPrefix(k, `"/_v2/`) && !slices.Contains(own.keys, k) {
					t.Errorf("lost %s", k)
				}
			}
			m.Serve()
			keys, ttls := keysOf(t, m)
			files := 0
			tree.files(0, func(n *v2node, ttl int64) {
				files++
				if !slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, n.Key+"="+n.Value+" created ") }) {
					t.Errorf("%s=%s is not there", n.Key, n.Value)
				}
				if have := ttls[n.Key]; (have == 0) != (ttl == 0) || ttl > 0 && (have < ttl-60 || have > ttl+60) {
					t.Errorf("%s has %d s left, and a lease of %d s", n.Key, ttl, have)
				}
			})
			for _, k := range keys {
				if strings.HasPrefix(k, "/_v2/") {
					t.Errorf("%s is left", k)
				}
			}
			if files < 10 {
				t.Errorf("%d v2 keys", files)
			}
		})
	}
}

// A transformer gets from both programs the same nodes, and what it answers with is taken alike.
func TestMigrateTransformer(t *testing.T) {
	t.Parallel()
	there := stock(t, "etcd34")
	m := process.Single(t, there, "", "--enable-v2").Serve()
	v2history(t, m, rand.New(rand.NewPCG(3, 1)), 120)
	v2Settled(t, m)
	m.Stop()
	// Two keys, whatever comes in, which is kept.
	dir := t.TempDir()
	program, out := filepath.Join(dir, "transformer"), filepath.Join(dir, "out")
	var kvs []byte
	for _, kv := range []string{"\n\x02/b\x10\x04\x18\x07\x20\x01*\x06second", "\n\x02/a\x10\x03\x18\x05\x20\x01*\x04more"} {
		kvs = append(binary.LittleEndian.AppendUint64(kvs, uint64(len(kv))), kv...)
	}
	if err := os.WriteFile(out, kvs, 0o600); err != nil {
		t.Fatal(err)
	}
	inputs, keys := map[string][]string{}, map[string][]string{}
	for _, p := range []process.Program{there, ours(t)} {
		in := filepath.Join(dir, p.Name)
		// 3.4 loses what it has not read when the program ends.
		if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\ncat >%s\ncat %s\nsleep 5\n", in, out), 0o700); err != nil {
			t.Fatal(err)
		}
		c := copied(t, m, there)
		if o := migrated(t, p, c, "--transformer="+program, "--wal-dir="+filepath.Join(c.Dir, "member", "wal")); strings.Contains(o.Stdout, "default transformer") {
			t.Errorf("%s says %q", p.Name, o.Stdout)
		}
		keys[p.Name], _ = keysOf(t, c.Serve())
		b, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		inputs[p.Name] = transformed(t, b)
	}
	if got, want := inputs["keelson"], inputs["etcd34"]; len(got) < 10 || !slices.Equal(got, want) {
		t.Errorf("%d nodes, want %d\n%s", len(got), len(want), strings.Join(differences(got, want), "\n"))
	}
	if got, want := keys["keelson"], keys["etcd34"]; len(got) != 2 || !slices.Equal(got, want) {
		t.Errorf("keys %q, want %q", got, want)
	}
}

// transformed lists the nodes that a transformer was given, field by field, without the seconds that pass between two runs.
func transformed(t *testing.T, b []byte) (nodes []string) {
	t.Helper()
	if bytes.ContainsAny(b, "\n") {
		t.Error("there is something between the nodes")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return nodes
		} else if err != nil {
			t.Fatal(err)
		}
		var n struct{ TTL int64 }
		if err := json.Unmarshal(raw, &n); err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		if n.TTL != 0 {
			text = strings.Replace(text, fmt.Sprintf(`"ttl":%d`, n.TTL), fmt.Sprintf(`"ttl":%d`, (n.TTL+ttlUnit-1)/ttlUnit), 1)
		}
		nodes = append(nodes, text)
	}
}

// A running member's directory is refused, of either program.
func TestMigrateRunning(t *testing.T) {
	t.Parallel()
	for _, p := range []process.Program{ours(t), stock(t, "etcd34")} {
		m := process.Single(t, p, "").Serve()
		began := time.Now()
		o := process.Tool(t, ours(t).Path("etcdctl"), "", nil, "migrate", "--data-dir="+m.Dir)
		if o.Status == 0 || !strings.Contains(o.Stderr, "in use by a running member: stop it first") || time.Since(began) > process.Patience/2 {
			t.Errorf("%s: exit %d, %q", p.Name, o.Status, o.Stderr)
		}
		if _, err := m.Client().Put(t.Context(), "a", "b"); err != nil {
			t.Errorf("%s afterwards: %v", p.Name, err)
		}
	}
}
