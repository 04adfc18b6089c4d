package compat

import (
	"fmt"
	"os/exec"
	"testing"

	"keelson/test/process"
)

// A mirror of either program copies from members of either kind to the other's: what is there, changes, deletes.
func TestMirror(t *testing.T) {
	t.Parallel()
	ours, theirs := ours(t), stock(t, "etcd37")
	for _, x := range []struct{ mirror, from, to process.Program }{{ours, theirs, ours}, {ours, ours, theirs}, {theirs, ours, theirs}, {theirs, theirs, ours}} {
		t.Run(x.mirror.Name+" from "+x.from.Name, func(t *testing.T) {
			t.Parallel()
			from, to := single(t, x.from).Serve(), single(t, x.to).Serve()
			for i := range 5 {
				from.Ctl("put", fmt.Sprintf("a%d", i), "first")
			}
			cmd := exec.Command(x.mirror.Path("etcdctl"), "--endpoints=http://"+from.ClientAddr, "make-mirror", "--prefix=a", "--no-dest-prefix", to.ClientAddr)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait() // it was killed
			})
			holds := func(want string) {
				t.Helper()
				process.Until(t, "the copy", func() error {
					if got := to.Ctl("get", "", "--prefix"); got != want {
						return fmt.Errorf("%q, not %q", got, want)
					}
					return nil
				})
			}
			holds("0\nfirst\n1\nfirst\n2\nfirst\n3\nfirst\n4\nfirst\n")
			from.Ctl("del", "a1", "a4")
			from.Ctl("put", "a0", "second")
			from.Ctl("put", "b", "elsewhere")
			holds("0\nsecond\n4\nfirst\n")
		})
	}
}
