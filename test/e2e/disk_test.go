package e2e

import (
	"fmt"
	"os"
	"path/filepath"
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
	bestOf(t, func() error {
		gap := hungGap(t, all)
		t.Logf("the longest pause of writes at a follower was %v", gap)
		if gap > 5*time.Second {
			return fmt.Errorf("writes paused for %v: the leader with the hung disk did not make way", gap)
		}
		return nil
	})
	agreeOnHash(t, all)
}

// hungGap measures the longest pause of writes while the leader's disk begins to hang, until another leads.
func hungGap(t *testing.T, all []*process.Member) time.Duration {
	t.Helper()
	hung := all[leader(t, all)]
	var rest []*process.Member
	for _, m := range all {
		if m != hung {
			rest = append(rest, m)
		}
	}
	gap := gapOver(t, rest[0].Client(), func() {
		breakDisk(t, hung, "datasync 6s")
		leader(t, rest)
	})
	mendDisk(t, hung)
	hung.WaitHealthy()
	return gap
}

// brokenDisk fails the disk under a writer: the process ends with the disk's reason and nothing acknowledged is lost.
func brokenDisk(t *testing.T, p process.Program, how, reason string) {
	m := process.Single(t, p, "")
	m.Env = []string{"KEELSON_FAULT=" + filepath.Join(m.WorkDir, "fault")}
	m.Serve()
	load := process.StartLoad(t, m.Client(), "load", 200)
	load.Await(t, 100)
	breakDisk(t, m, how)
	if status := m.WaitExit(); status != 1 {
		t.Errorf("ended with status %d", status)
	}
	if log := m.Log(); !strings.Contains(log, reason) || !strings.Contains(log, ".wal") {
		t.Errorf("the log does not say why it ended: %s", log)
	}
	mendDisk(t, m)
	m.Serve() // what waits for the member goes on
	load.Stop()
	load.Check(t, m.Client())
	m.Stop()
}
