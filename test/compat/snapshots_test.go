package compat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/fixture"
	"keelson/test/process"
)

// backup is a snapshot, and the state file of the member that it was taken from, stopped right after ("": none).
type backup struct{ snapshot, db string }

// backUp runs a member, gives it a history, and saves a snapshot with the etcdctl of with.
func backUp(t *testing.T, p, with process.Program) backup {
	t.Helper()
	m := single(t, p).Serve()
	write(t, m, 0)
	b := backup{snapshot: filepath.Join(t.TempDir(), "snapshot.db"), db: filepath.Join(m.Dir, "member", "snap", "db")}
	o := process.Tool(t, with.Path("etcdctl"), "", []string{"ETCDCTL_ENDPOINTS=http://" + m.ClientAddr}, "snapshot", "save", b.snapshot)
	if o.Status != 0 || !strings.HasPrefix(o.Stdout, "Snapshot saved at "+b.snapshot+"\n") {
		t.Fatalf("snapshot save: %+v", o)
	}
	m.Stop()
	return b
}

// unpacked gives the snapshot in a file of testdata.
func unpacked(t *testing.T, name string) string {
	t.Helper()
	b := fixture.Gunzip(t, name)
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// restore makes new directories for members, which are all of a cluster, with the etcdutl of tool.
func restore(t *testing.T, tool process.Program, snapshot string, members []*process.Member, flags ...string) {
	t.Helper()
	var initial []string
	for _, m := range members {
		initial = append(initial, m.Name+"=http://"+m.PeerAddr)
	}
	for _, m := range members {
		m.Dir = filepath.Join(t.TempDir(), m.Name+".etcd")
		o := process.Tool(t, tool.Path("etcdutl"), "", nil, append([]string{
			"snapshot", "restore", snapshot, "--name", m.Name, "--data-dir", m.Dir, "--initial-cluster", strings.Join(initial, ","),
			"--initial-advertise-peer-urls", "http://" + m.PeerAddr,
		}, flags...)...)
		if o.Status != 0 {
			t.Fatalf("%s's etcdutl snapshot restore: %+v", tool.Name, o)
		}
	}
}

// served restores a snapshot, starts a program on the directory, and gives what that serves.
func served(t *testing.T, m *process.Member, tool, p process.Program, snapshot string, flags ...string) state {
	t.Helper()
	restore(t, tool, snapshot, []*process.Member{m}, flags...)
	m.With(p).Serve()
	s := observe(t, m)
	if _, err := m.Client().Put(t.Context(), "after", "the restore"); err != nil {
		t.Errorf("%s, restored by %s: %v", p.Name, tool.Name, err)
	}
	m.Stop()
	return s
}

// Snapshots of every version restore with either etcdutl and are served by either program, all alike; so do copied state
// files, under --skip-hash-check.
func TestSnapshots(t *testing.T) {
	etcd := stock(t, "etcd37")
	for name, c := range map[string]struct {
		take func(t *testing.T) backup
		also string // another program that serves what Keelson's etcdutl restores
	}{
		"etcd34":  {take: func(t *testing.T) backup { return backup{unpacked(t, "etcd34-snapshot.db.gz"), ""} }},
		"etcd35":  {take: func(t *testing.T) backup { return backUp(t, stock(t, "etcd35"), ours(t)) }},
		"etcd36":  {take: func(t *testing.T) backup { return backUp(t, stock(t, "etcd36"), ours(t)) }, also: "etcd36"},
		"etcd37":  {take: func(t *testing.T) backup { return backUp(t, etcd, ours(t)) }},
		"keelson": {take: func(t *testing.T) backup { return backUp(t, ours(t), etcd) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.take(t)
			m := single(t, etcd)
			want := served(t, m, etcd, etcd, b.snapshot)
			same(t, "restored and served by Keelson", served(t, m, ours(t), ours(t), b.snapshot), want)
			same(t, "restored by Keelson, served by etcd", served(t, m, ours(t), etcd, b.snapshot), want)
			same(t, "restored by etcd, served by Keelson", served(t, m, etcd, ours(t), b.snapshot), want)
			if b.db != "" {
				same(t, "from a copied file", served(t, m, ours(t), ours(t), b.db, "--skip-hash-check"), want)
			}
			if c.also != "" {
				same(t, "restored by Keelson, served by "+c.also, served(t, m, ours(t), stock(t, c.also), b.snapshot), want)
			}
			sameAnswers(t, b.snapshot)
		})
	}
}

// sameAnswers compares what both etcdutls print about a snapshot.
func sameAnswers(t *testing.T, snapshot string) {
	t.Helper()
	content, err := os.ReadFile(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	for _, line := range []string{
		"snapshot status", "snapshot status -w table", "snapshot status -w json", "snapshot status -w fields", "snapshot status -w protobuf", "snapshot status -w yaml",
		"hashkv", "hashkv -w table", "hashkv -w json", "hashkv -w fields", "hashkv --rev 270", "hashkv --rev 999", "hashkv --rev 2",
	} {
		var got [2]process.Outcome
		for i, p := range []process.Program{ours(t), stock(t, "etcd37")} {
			// etcd's hashkv writes to the file, which then has another hash than the one behind it.
			if err := os.WriteFile(copied, content, 0o600); err != nil {
				t.Fatal(err)
			}
			got[i] = process.Tool(t, p.Path("etcdutl"), "", nil, append(strings.Fields(line), copied)...)
			if after, err := os.ReadFile(copied); i == 0 && (err != nil || !bytes.Equal(after, content)) {
				t.Errorf("%s changed its file, %v", line, err)
			}
		}
		if got[0].Stdout != got[1].Stdout || got[0].Status != got[1].Status || lastLine(got[0].Stderr) != lastLine(got[1].Stderr) {
			t.Errorf("%s: %+v, etcd %+v", line, got[0], got[1])
		}
	}
}

// A restore that raises the revision does so as etcd's: equal hashes, and the past counts as compacted.
func TestRestoreBumped(t *testing.T) {
	t.Parallel()
	etcd := stock(t, "etcd37")
	b := backUp(t, ours(t), ours(t))
	m := single(t, etcd)
	flags := []string{"--bump-revision", "100000", "--mark-compacted"}
	want := served(t, m, etcd, etcd, b.snapshot, flags...)
	if want.rev < 100000 || want.compacted != want.rev {
		t.Errorf("etcd is at revision %d, compacted at %d", want.rev, want.compacted)
	}
	same(t, "restored by Keelson, served by etcd", served(t, m, ours(t), etcd, b.snapshot, flags...), want)
	same(t, "restored by etcd, served by Keelson", served(t, m, etcd, ours(t), b.snapshot, flags...), want)
	same(t, "restored and served by Keelson", served(t, m, ours(t), ours(t), b.snapshot, flags...), want)
	m.Serve()
	c := m.Client()
	if r := <-c.Watch(t.Context(), "end", clientv3.WithRev(270)); r.CompactRevision != want.rev {
		t.Errorf("a watch of the past got %+v", r)
	}
	if _, err := c.Get(t.Context(), "end", clientv3.WithRev(270)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a read of the past: %v", err)
	}
}

// A cluster of three is restored, by one tool or by both, and served, by one program or by both: all members agree.
func TestRestoreThree(t *testing.T) {
	etcd := stock(t, "etcd37")
	for name, c := range map[string]struct{ tools, programs []process.Program }{
		"ours":  {[]process.Program{ours(t)}, []process.Program{ours(t)}},
		"mixed": {[]process.Program{ours(t), etcd}, []process.Program{ours(t), etcd, etcd}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := backUp(t, ours(t), ours(t))
			var programs []process.Program
			for i := range 3 {
				programs = append(programs, c.programs[i%len(c.programs)])
			}
			members := process.Cluster(t, programs)
			dirs := make([]string, len(members))
			for i := range members {
				restore(t, c.tools[i%len(c.tools)], b.snapshot, members)
				dirs[i] = members[i].Dir
			}
			for i, m := range members {
				m.Dir = dirs[i]
				m.Start()
			}
			for _, m := range members {
				m.WaitHealthy()
			}
			want := observe(t, members[0])
			if len(want.members) != 3 {
				t.Errorf("members %v", want.members)
			}
			for _, m := range members[1:] {
				same(t, m.Name, observe(t, m), want)
			}
			for _, m := range members {
				write(t, m, 1)
			}
			want = observe(t, members[0])
			for _, m := range members[1:] {
				same(t, m.Name+" after more", observe(t, m), want)
			}
		})
	}
}

// The directories of three programs are migrated, or refused, by both tools alike.
func TestMigrate(t *testing.T) {
	t.Parallel()
	tools := []process.Program{ours(t), stock(t, "etcd37")}
	for _, p := range []process.Program{ours(t), stock(t, "etcd36"), stock(t, "etcd35")} {
		m := single(t, p, "--snapshot-count=60").Serve()
		write(t, m, 0)
		m.Stop()
		path := filepath.Join(m.Dir, "member", "snap", "db")
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"3.5", "3.6", "3.7", "3.8 --force"} {
			var got [2]string
			for i, tool := range tools {
				o := process.Tool(t, tool.Path("etcdutl"), "", nil, append([]string{"migrate", "--data-dir", m.Dir, "--target-version"}, strings.Fields(line)...)...)
				text, _, _ := strings.Cut(lastLine(o.Stderr), ";") // ours goes on to say what to do
				v := process.Tool(t, ours(t).Path("etcdutl"), "", nil, "bbolt", "get", path, "meta", "storageVersion")
				got[i] = fmt.Sprintf("status %d, %q, now %q", o.Status, strings.TrimSpace(text), v.Stdout)
				if err := os.WriteFile(path, before, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got[0] != got[1] {
				t.Errorf("%s's directory to %s: %s, etcd %s", p.Name, line, got[0], got[1])
			}
		}
	}
}
