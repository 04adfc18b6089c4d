package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keelson/test/process"
)

// breakDisk has the member's disk fail from now on; mendDisk ends that.
func breakDisk(t *testing.T, m *process.Member, how string) {
	t.Helper()
	// A rename, so that the member never reads half a line.
	file := filepath.Join(m.WorkDir, "fault")
	if err := os.WriteFile(file+".new", []byte(how+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func mendDisk(t *testing.T, m *process.Member) {
	t.Helper()
	if err := os.Remove(filepath.Join(m.WorkDir, "fault")); err != nil {
		t.Fatal(err)
	}
}

// TestBrokenDisks has the disk of real processes hang, fill up and fail.
func TestBrokenDisks(t *testing.T) {
	t.Parallel()
	p := faulty(t)
	t.Run("hung", func(t *testing.T) { t.Parallel(); hungLeader(t, p) })
	for how, reason := range map[string]string{"write full": "no space left on device", "write error": "input/output error", "datasync error": "input/output error"} {
		t.Run(how, func(t *testing.T) { t.Parallel(); brokenDisk(t, p, how, reason) })
	}
}

// hungLeader holds the leader's syncs back for longer than an election time-out: it hands over, and when its disk works
// again it follows. What was acknowledged is there.
func hungLeader(t *testing.T, p process.Program) {
	all := process.Cluster(t, []process.Program{p, p, p})
	for _, m := range all {
		m.Env = []string{"KEELSON_FAULT=" + filepath.Join(m.WorkDir, "fault")}
		m.Start()
	}
	for _, m := range all {
		m.WaitHealthy()
	}
	hung := all[leader(t, all)]
	var rest []*process.Member
	for _, m := range all {
		if m != hung {
			rest = append(rest, m)
		}
	}
	gap := gapOver(t, rest[0].Client(), func() {
		breakDisk(t, hung, "datasync 6s")
		process.Until(t, "another leads", func() error {
			s, err := rest[0].Client().Status(t.Context(), rest[0].ClientAddr)
			if err == nil && s.Leader == s.Header.MemberId {
				return nil
			}
			if s, err = rest[1].Client().Status(t.Context(), rest[1].ClientAddr); err == nil && s.Leader == s.Header.MemberId {
				return nil
			}
			return errors.New("neither does")
		})
	})
	t.Logf("the longest pause of writes at a follower was %v", gap)
	if gap > 5*time.Second {
		t.Errorf("writes paused for %v: the leader with the hung disk did not make way", gap)
	}
	mendDisk(t, hung)
	hung.WaitHealthy()
	agreeOnHash(t, all)
}

// brokenDisk fails the disk under a writer: the process ends with the disk's reason and nothing acknowledged is lost.
func brokenDisk(t *testing.T, p process.Program, how, reason string) {
	m := process.Single(t, p, "")
	m.Env = []string{"KEELSON_FAULT=" + filepath.Join(m.WorkDir, "fault")}
	m.Serve()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	acked := make(chan int)
	c := m.Client()
	enough := make(chan struct{})
	go func() {
		n := 0
		for {
			if _, err := c.Put(ctx, "k"+strconv.Itoa(n), "v"); err != nil {
				acked <- n
				return
			}
			if n++; n == 100 {
				close(enough)
			}
		}
	}()
	<-enough
	breakDisk(t, m, how)
	if status := m.WaitExit(); status != 1 {
		t.Errorf("ended with status %d", status)
	}
	cancel()
	n := <-acked
	if log := m.Log(); !strings.Contains(log, reason) || !strings.Contains(log, ".wal") {
		t.Errorf("the log does not say why it ended: %s", log)
	}
	mendDisk(t, m)
	m.Serve()
	c = m.Client()
	for i := range n {
		if r, err := c.Get(t.Context(), "k"+strconv.Itoa(i)); err != nil || r.Count != 1 {
			t.Errorf("put %d was acknowledged and is lost (%v)", i, err)
		}
	}
	m.Stop()
}
