package server

import (
	"math/rand/v2"
	"testing"

	"keelson/internal/config"
	"keelson/internal/kit/vfs"
)

// TestMakeDirs: whatever a power loss takes, it does not take the directories that the log will lie in.
func TestMakeDirs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, m := range []config.Member{{DataDir: "/a/b/data"}, {DataDir: "data.etcd"}, {DataDir: "/data", WALDir: "/log/wal"}} {
		d := dirsOf(m)
		for range 20 {
			disk := vfs.NewMem(1)
			if err := makeDirs(disk.Crash(r), d); err != nil {
				t.Fatal(err)
			}
			if err := makeDirs(disk, d); err != nil {
				t.Fatal(err)
			}
			after := disk.Crash(r)
			if _, err := after.Stat(d.member); err != nil {
				t.Fatal(err)
			}
			if _, err := after.Stat(d.snap); err != nil {
				t.Fatal(err)
			}
		}
	}
}
