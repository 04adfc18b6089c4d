package compat

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"keelson/test/authority"
	"keelson/test/process"
)

// secured gives the flags of mutual TLS, and makes members speak it.
func secured(t *testing.T) (flags []string, speak func([]*process.Member)) {
	t.Helper()
	dir := t.TempDir()
	ca := authority.New(t, "ca")
	authority.Bundle(t, filepath.Join(dir, "ca"), ca)
	member, client := ca.Local(dir, "member"), ca.Local(dir, "client")
	flags = []string{
		"--cert-file=" + member.CertFile, "--key-file=" + member.KeyFile, "--trusted-ca-file=" + filepath.Join(dir, "ca"), "--client-cert-auth",
		"--peer-cert-file=" + member.CertFile, "--peer-key-file=" + member.KeyFile, "--peer-trusted-ca-file=" + filepath.Join(dir, "ca"), "--peer-client-cert-auth",
		"--snapshot-count=500", "--snapshot-catchup-entries=50",
	}
	return flags, func(all []*process.Member) { process.Secure(all, authority.Client(&client, ca), true) }
}

// Members of both kinds form a cluster over TLS, whoever leads, and one that was away catches up by a snapshot.
func TestMixedTLS(t *testing.T) {
	flags, speak := secured(t)
	for _, kinds := range [][]string{{"keelson", "keelson", "etcd37"}, {"etcd37", "etcd37", "keelson"}} {
		var programs []process.Program
		for _, k := range kinds {
			if k == "keelson" {
				programs = append(programs, ours(t))
			} else {
				programs = append(programs, stock(t, k))
			}
		}
		c := &cluster{t: t, all: process.Cluster(t, programs, flags...), kinds: kinds}
		speak(c.all)
		for _, m := range c.all {
			m.Start()
		}
		c.healthy()
		for range 2 {
			lead := c.leader()
			load := process.StartLoad(t, process.Dial(t, c.all...), "load-"+lead.Name, 500)
			load.Await(t, 300)
			lead.Kill()
			load.Await(t, 1200) // past two snapshots: who is away needs one
			load.Stop()
			lead.Serve()
			load.Check(t, lead.Client())
		}
	}
}

// Members that make their certificates themselves form a cluster, and each kind goes on with those that the other one made.
func TestMixedAutoTLS(t *testing.T) {
	members := process.Cluster(t, []process.Program{ours(t), stock(t, "etcd37"), ours(t)}, "--auto-tls", "--peer-auto-tls")
	process.Secure(members, &tls.Config{InsecureSkipVerify: true}, true)
	made := map[string][]byte{}
	for round := range 2 {
		for _, m := range members {
			m.Start()
		}
		for _, m := range members {
			m.WaitHealthy()
			for _, kind := range []string{"client", "peer"} {
				file := filepath.Join(m.Dir, "fixtures", kind, "cert.pem")
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if round == 0 {
					made[file] = b
				} else if !bytes.Equal(b, made[file]) {
					t.Errorf("%s was made anew by %s", file, m.Program.Name)
				}
			}
		}
		for _, m := range members {
			m.Stop()
		}
		members[0].With(stock(t, "etcd37"))
		members[1].With(ours(t))
	}
}
