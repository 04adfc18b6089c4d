package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/test/process"
)

// damaged writes to three members, stops one that does not lead, and flips a byte of a value in its file. It gives the cluster
// and the index of the damaged one, which is down.
func damaged(t *testing.T, flags ...string) ([]*process.Member, int) {
	t.Helper()
	all := three(t, flags...)
	c := process.Dial(t, all...)
	for i := range 20 {
		put(t, c, fmt.Sprint("k", i), fmt.Sprint("a rare value, the one of ", i, "!"))
	}
	agreeOnHash(t, all)
	bad := (leader(t, all) + 1) % 3
	all[bad].Stop()
	all[bad].Damage("the one of 7!")
	return all, bad
}

// accused waits until the CORRUPT alarm of a member is raised, and of nobody else.
func accused(t *testing.T, bad *process.Member, ask *process.Member) {
	t.Helper()
	want := fmt.Sprintf("memberID:%d alarm:CORRUPT\n", bad.ID())
	process.Until(t, "the damage is found", func() error {
		if out := ask.Ctl("alarm", "list"); out != want {
			return fmt.Errorf("alarm list: %q, want %q", out, want)
		}
		return nil
	})
}

// With InitialCorruptCheck a member whose file was damaged does not start; without, the leader's check finds it, and nothing is
// written any more while reads go on.
func TestDamageFound(t *testing.T) {
	t.Parallel()
	all, bad := damaged(t, "--corrupt-check-time=300ms")
	m, good := all[bad], all[(bad+1)%3]
	m.Flags = append(m.Flags, "--feature-gates=InitialCorruptCheck=true")
	if log := m.Refused(); !strings.Contains(log, "found data inconsistency with peers") || !strings.Contains(log, "add it again") {
		t.Error("it does not say why it does not start")
	}
	m.Flags = m.Flags[:len(m.Flags)-1]
	m.Start()
	accused(t, m, good)
	for _, m := range all {
		c := m.Client()
		if _, err := process.Answered(t, func() (*clientv3.PutResponse, error) { return c.Put(t.Context(), "k", "v") }); !errors.Is(err, rpctypes.ErrCorrupt) {
			t.Errorf("%s: a put: %v", m.Name, err)
		}
		if _, err := c.Get(t.Context(), "k7"); err != nil {
			t.Errorf("%s: a read: %v", m.Name, err)
		}
		if _, err := m.HTTP("/readyz"); err == nil || !strings.Contains(err.Error(), "alarm activated: CORRUPT") {
			t.Errorf("%s: /readyz: %v", m.Name, err)
		}
	}
}

// A leader whose own file is damaged finds out that the others agree with each other.
func TestDamagedLeader(t *testing.T) {
	t.Parallel()
	all, bad := damaged(t)
	m := all[bad]
	m.Flags = append(m.Flags, "--corrupt-check-time=300ms")
	m.Serve()
	process.Until(t, "the damaged one leads", func() error {
		_, err := all[leader(t, all)].Client().MoveLeader(t.Context(), m.ID()) // who led may not any more
		return err
	})
	accused(t, m, all[(bad+1)%3])
}

// What members hash at a compaction shows the damage too.
func TestDamageFoundAtCompaction(t *testing.T) {
	t.Parallel()
	all, bad := damaged(t, "--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=300ms")
	all[bad].Serve()
	c := process.Dial(t, all...)
	rev := put(t, c, "k", "v").Header.Revision
	_, err := process.Answered(t, func() (*clientv3.CompactResponse, error) {
		return c.Compact(t.Context(), rev, clientv3.WithCompactPhysical())
	})
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) { // the second answer may be that it was done at the first
		t.Fatal(err)
	}
	accused(t, all[bad], all[(bad+1)%3])
	alarm := &clientv3.AlarmMember{MemberID: all[bad].ID(), Alarm: pb.AlarmType_CORRUPT}
	if _, err := process.Answered(t, func() (*clientv3.AlarmResponse, error) { return c.AlarmDisarm(t.Context(), alarm) }); err != nil {
		t.Error(err)
	}
}
